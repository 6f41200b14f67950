// A region is announced by a counter that the workers watch: they spin for a moment, because the next region
// of a step is usually microseconds away, then sleep on the counter (a futex). The caller waits for the end
// in the same way, so a worker that the system has taken off its core costs a sleep and no burning.
#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"

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
  // Counters that different threads write lie on cache lines of their own.
  alignas(64) std::atomic<uint32_t> region{0};  // counts up when a region starts
  alignas(64) std::atomic<int> busy_workers{0};
  alignas(64) const std::function<void(int)>* body = nullptr;  // nullptr when a region starts: stop
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

  void work(int thread) {
    uint32_t seen = 0;
    for (;;) {
      seen = wait_for_change(region, seen);
      if (body == nullptr) return;
      call_body(thread);
      if (busy_workers.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_workers.notify_one();
    }
  }

  void announce(const std::function<void(int)>* next) {
    body = next;
    region.fetch_add(1, std::memory_order_release);
    region.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  LLAMITA_CHECK(threads >= 0, "threads ", threads);
  const int cores = usable_cores();
  const int count = threads == 0 ? cores : std::min(threads, cores);
  for (int thread = 1; thread < count; ++thread) {
    state_->workers.emplace_back([state = state_.get(), thread] { state->work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  state_->announce(nullptr);
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(const std::function<void(int thread)>& body) {
  State& state = *state_;
  if (state.workers.empty()) return body(0);
  LLAMITA_CHECK(!state.in_region, "a parallel region inside another");
  state.in_region = true;
  state.busy_workers.store(static_cast<int>(state.workers.size()), std::memory_order_relaxed);
  state.announce(&body);
  state.call_body(0);
  for (int busy = state.busy_workers.load(std::memory_order_acquire); busy != 0;) {
    busy = wait_for_change(state.busy_workers, busy);
  }
  state.in_region = false;
  if (state.error) std::rethrow_exception(std::exchange(state.error, nullptr));
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
  run([&chunks](int) { chunks.take_all(); });  // one captured pointer: std::function allocates nothing
}

}  // namespace llamita
