// Pinning: which core each worker of a pool keeps to, and when it lets go of it.
//
// A worker that stays on one core keeps its caches and is never put beside another worker. But a pinned
// thread cannot go elsewhere when another process takes its core: the system would have moved it, and now
// each region that it is in waits for a time slice. So `automatic` pins only where it can gain (as many
// threads as allowed cores: there is no free core to be moved to) and only while the core is its own: a
// worker that had to wait for its core lets go, and tries again later, ever more seldom.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"

namespace llamita {

// "auto", "on" or "off"; throws an Error that names `option` on anything else.
Pinning parse_pinning(std::string_view text, std::string_view option);

// The CPUs in the order in which threads should take them: a first one of each physical core, then the second
// ones, and so on. `topology` is the folder of the cpuN folders (/sys/devices/system/cpu); a CPU it says
// nothing of counts as a core of its own.
std::vector<int> pin_order(const std::vector<int>& cpus, const std::string& topology);

// The CPU of every thread of a pool, or none where they are not pinned at all. The caller's thread, the
// first, is never pinned, because threads that it starts would inherit that; its CPU is the one left to it.
std::vector<int> pin_cpus(Pinning pinning, int threads);

// One thread's hold on its CPU. Made and used on that thread; its end gives the thread its mask back.
class CorePin {
 public:
  // Whether `automatic` may hold on is judged every kWindow, by the time that the thread waited for a core,
  // of which it bears a kMostWaiting-th: what the system's own threads take is far less, a competitor takes
  // half.
  static constexpr std::chrono::milliseconds kWindow{50};
  static constexpr int kMostWaiting = 16;
  static constexpr std::chrono::seconds kFirstPause{1}, kLongestPause{64};

  CorePin(int cpu, Pinning pinning);
  ~CorePin();
  CorePin(const CorePin&) = delete;
  CorePin& operator=(const CorePin&) = delete;

  bool pinned() const { return pinned_; }
  // To be called often, where nobody waits for this thread: lets go of the core, or takes it again.
  void look();

 private:
  using Clock = std::chrono::steady_clock;
  void pin();
  void let_go();

  int cpu_;
  Pinning pinning_;
  std::vector<int> before_;  // the thread's CPUs
  bool pinned_ = false;
  Clock::time_point last_look_, next_look_;
  Clock::duration pause_ = kFirstPause;
  int64_t waited_ns_ = 0;
};

}  // namespace llamita
