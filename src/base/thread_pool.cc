// A region is announced by a counter that the workers watch: they spin for a moment, because the next region
// of a step is usually microseconds away, then sleep on the counter (a futex). The caller waits for the end
// in the same way.
//
// Workers enter a region through a gate, which the caller of parallel_for shuts when no chunk is left: it
// waits for those inside, and not for one that the system keeps off its core. Another process that takes a
// core so costs that core and not a time slice in each of a step's hundreds of regions.
#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/pinning.h"

namespace llamita {

namespace {

// Long enough for the serial code between two ops of a step, short enough to be nothing between two steps.
constexpr auto kSpin = std::chrono::microseconds(30);

void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Returns the value of `watched` once it is no longer `old`.
template <class T>
T wait_for_change(const std::atomic<T>& watched, T old) {
  const auto begin = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      const T value = watched.load(std::memory_order_acquire);
      if (value != old) return value;
      pause_core();
    }
  } while (std::chrono::steady_clock::now() - begin < kSpin);
  for (;;) {
    watched.wait(old, std::memory_order_acquire);
    const T value = watched.load(std::memory_order_acquire);
    if (value != old) return value;
  }
}

}  // namespace

struct ThreadPool::State {
  // The gate: the region's number, whether it is open, and how many workers are inside.
  static constexpr uint64_t kOpen = uint64_t{1} << 31, kInside = kOpen - 1;

  // Counters that different threads write lie on cache lines of their own.
  alignas(64) std::atomic<uint32_t> region{0};  // counts up when a region starts
  alignas(64) std::atomic<uint64_t> gate{0};
  alignas(64) std::atomic<int> awaited{0};  // workers that must still finish, of a region for all
  alignas(64) const std::function<void(int)>* body = nullptr;  // nullptr when a region starts: stop
  bool for_all = false;
  bool in_region = false;
  std::vector<std::thread> workers;
  std::mutex error_mutex;
  std::exception_ptr error;

  void call_body(int thread) {
    try {
      (*body)(thread);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  // Whether region `number` was open and this worker is inside now.
  bool enter(uint32_t number) {
    uint64_t seen = gate.load(std::memory_order_acquire);
    while (seen >> 32 == number && (seen & kOpen) != 0) {
      if (gate.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void work(int thread, int cpu, Pinning pinning) {
    std::optional<CorePin> pin;
    if (cpu >= 0) pin.emplace(cpu, pinning);
    uint32_t seen = 0;
    for (;;) {
      if (pin) pin->look();
      seen = wait_for_change(region, seen);
      if (!enter(seen)) continue;  // late: the others have done it
      if (body == nullptr) return;
      call_body(thread);
      if (for_all && awaited.fetch_sub(1, std::memory_order_acq_rel) == 1) awaited.notify_one();
      const uint64_t before = gate.fetch_sub(1, std::memory_order_acq_rel);
      if ((before & (kOpen | kInside)) == 1) gate.notify_one();  // shut, and the last one inside
    }
  }

  void announce(const std::function<void(int)>* next, bool all) {
    const uint32_t number = region.load(std::memory_order_relaxed) + 1;
    body = next;
    for_all = all;
    awaited.store(static_cast<int>(workers.size()), std::memory_order_relaxed);
    gate.store(uint64_t{number} << 32 | kOpen, std::memory_order_release);
    region.store(number, std::memory_order_release);
    region.notify_all();
  }

  // Calls `next` here and on workers: on all of them, or on those that come before it is done here.
  void run(const std::function<void(int)>& next, bool all) {
    LLAMITA_CHECK(!in_region, "a parallel region inside another");
    in_region = true;
    announce(&next, all);
    call_body(0);
    if (all) {
      for (int left = awaited.load(std::memory_order_acquire); left != 0;)
        left = wait_for_change(awaited, left);
    }
    uint64_t inside = gate.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while ((inside & kInside) != 0) inside = wait_for_change(gate, inside);
    in_region = false;
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }
};

ThreadPool::ThreadPool(int threads, Pinning pinning) : state_(std::make_unique<State>()) {
  LLAMITA_CHECK(threads >= 0, "threads ", threads);
  const int cores = usable_cores();
  const int count = threads == 0 ? cores : std::min(threads, cores);
  const std::vector<int> cpus = pin_cpus(pinning, count);
  for (int thread = 1; thread < count; ++thread) {
    const int cpu = cpus.empty() ? -1 : cpus[static_cast<size_t>(thread)];
    state_->workers.emplace_back(
        [state = state_.get(), thread, cpu, pinning] { state->work(thread, cpu, pinning); });
  }
}

ThreadPool::~ThreadPool() {
  state_->announce(nullptr, true);
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

uint32_t ThreadPool::regions() const { return state_->region.load(std::memory_order_relaxed); }

void ThreadPool::run(const std::function<void(int thread)>& body) {
  if (state_->workers.empty()) return body(0);
  state_->run(body, true);
}

void ThreadPool::parallel_for(int64_t n, int64_t grain,
                              const std::function<void(int64_t begin, int64_t end)>& body) {
  LLAMITA_CHECK(grain >= 1, "grain ", grain);
  if (n <= 0) return;
  struct Chunks {
    const std::function<void(int64_t, int64_t)>& body;
    int64_t n, grain;
    std::atomic<int64_t> next{0};  // first item nobody has taken

    void take_all() {
      for (;;) {
        const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= n) return;
        body(begin, std::min(begin + grain, n));
      }
    }
  } chunks{body, n, grain};
  if (state_->workers.empty() || n <= grain) return chunks.take_all();
  // One captured pointer: std::function allocates nothing.
  state_->run([&chunks](int) { chunks.take_all(); }, false);
}

}  // namespace llamita
