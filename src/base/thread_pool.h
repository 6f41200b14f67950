// ThreadPool: the one way this library uses more than one core. Workers spin briefly for the next region and
// then sleep; there are never more of them than cores this process was given (affinity and cgroup quota).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace llamita {

// Cores this process may use: the affinity mask, cut by the cgroup's CPU quota; at least 1.
int usable_cores();

// Whether workers keep to a core each (pinning.h): never, always, or while that cannot hurt: where there are
// as many threads as allowed cores, and as long as no other process takes a worker's core from it.
enum class Pinning : uint8_t { off, automatic, on };

class ThreadPool {
 public:
  // `threads` counts the caller, so 1 starts no worker. 0 means usable_cores(). More than usable_cores() is
  // cut to it.
  explicit ThreadPool(int threads = 0, Pinning pinning = Pinning::off);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  // Regions that workers were called to so far, modulo 2^32; what one thread does alone is none.
  uint32_t regions() const;

  // Calls body(thread) once on every thread, 0 <= thread < threads(), the caller's as 0, and returns when all
  // are done. Not reentrant: a body must not start another region (checked). One region at a time: a pool
  // belongs to one caller. When bodies throw, the first exception is rethrown here after all have ended.
  void run(const std::function<void(int thread)>& body);

  // Calls body(begin, end) over chunks of [0, n) of about `grain` items, taken by whichever thread is free.
  // Chunk borders depend on n and grain alone, never on the number of threads.
  void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llamita
