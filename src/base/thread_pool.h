// ThreadPool: the one way this library uses more than one core. Workers spin briefly for the next region and
// then sleep; there are never more of them than cores this process was given (affinity and cgroup quota).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace llamita {

// Cores this process may use: the affinity mask, cut by the cgroup's CPU quota; at least 1.
int usable_cores();

class ThreadPool {
 public:
  // `threads` counts the caller, so 1 starts no worker. 0 means usable_cores(). More than usable_cores() is
  // cut to it.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

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
