// What a parallel region of the pool costs when it has nothing to do: the price of each cut between ops.
//   bench_ops --benchmark_filter='region'
#include <benchmark/benchmark.h>

#include <atomic>

#include "base/cat.h"
#include "base/thread_pool.h"

namespace llamita {
namespace {

// `chunks` chunks of one addition each.
void run_region(benchmark::State& state, int threads, int chunks, Pinning pinning) {
  ThreadPool pool(threads, pinning);
  std::atomic<int64_t> sum{0};
  for (auto _ : state) {
    pool.parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
      sum.fetch_add(end - begin, std::memory_order_relaxed);
    });
  }
}

const bool registered = [] {
  for (int threads = 2; threads <= usable_cores(); threads *= 2) {
    for (const int chunks : {threads, 16 * threads}) {
      for (const bool pinned : {false, true}) {
        benchmark::RegisterBenchmark(
            cat("region/chunks:", chunks, "/pin:", pinned ? "on" : "off", "/threads:", threads).c_str(),
            [=](benchmark::State& state) {
              run_region(state, threads, chunks, pinned ? Pinning::on : Pinning::off);
            })
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace llamita
