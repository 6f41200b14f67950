#include "cli/machine_roofs.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "analysis/available_memory.h"
#include "base/timer.h"
#include "hw/cpu/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace llamita::cli {

namespace {

constexpr int kPasses = 5;   // the best one counts: everything that disturbs makes a pass slower
constexpr int kChains = 12;  // FMAs in flight: latency 4 x 2 a cycle = 8, and some more

// What the loops compute ends here, so that they cannot be left out.
std::atomic<uint64_t> sink{0};

uint64_t sum(const uint64_t* data, int64_t count) {
  uint64_t lanes[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8) {
    for (int lane = 0; lane < 8; ++lane) lanes[lane] += data[i + lane];
  }
  uint64_t total = 0;
  for (const uint64_t lane : lanes) total += lane;
  return total;
}

double measure_read(ThreadPool& pool) {
  // Far larger than any cache, and no more than an eighth of what is free.
  constexpr int64_t kLargest = int64_t{512} << 20, kSmallest = int64_t{32} << 20;
  const int64_t bytes = std::clamp(available_memory().value_or(kLargest) / 8, kSmallest, kLargest);
  const int64_t words = bytes / 8, share = words / pool.threads();
  const std::unique_ptr<uint64_t[]> data(new uint64_t[static_cast<size_t>(words)]);
  pool.run([&](int thread) { std::fill_n(data.get() + thread * share, share, uint64_t{1}); });
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch;
    pool.run([&](int thread) { sink += sum(data.get() + thread * share, share); });
    best = std::max(best, static_cast<double>(share * pool.threads() * 8) / watch.seconds());
  }
  return best;
}

// Each loop returns something that depends on every multiply-add. `lanes` is the f32 lanes of a vector.
struct FmaLoop {
  float (*run)(int64_t iterations);
  int lanes;
};

float fma_generic(int64_t iterations) {
  float chains[kChains * 4] = {};
  for (int64_t i = 0; i < iterations; ++i) {
    for (float& chain : chains) chain = chain * 0.5f + 1.0f;
  }
  return *std::max_element(chains, chains + kChains * 4);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float fma_avx2(int64_t iterations) {
  const __m256 half = _mm256_set1_ps(0.5f), one = _mm256_set1_ps(1.0f);
  __m256 chains[kChains];
  for (__m256& chain : chains) chain = one;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chains[c] = _mm256_fmadd_ps(chains[c], half, one);
  }
  __m256 total = chains[0];
  for (int c = 1; c < kChains; ++c) total = _mm256_add_ps(total, chains[c]);
  return _mm256_cvtss_f32(total);
}

__attribute__((target("avx512f"))) float fma_avx512(int64_t iterations) {
  const __m512 half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.0f);
  __m512 chains[kChains];
  for (__m512& chain : chains) chain = one;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chains[c] = _mm512_fmadd_ps(chains[c], half, one);
  }
  __m512 total = chains[0];
  for (int c = 1; c < kChains; ++c) total = _mm512_add_ps(total, chains[c]);
  return _mm512_cvtss_f32(total);
}
#endif

FmaLoop choose_fma_loop() {
#if defined(__x86_64__)
  const cpu::Isa isa = cpu::best_isa();
  if (isa >= cpu::Isa::avx512) return {fma_avx512, 16};
  if (isa >= cpu::Isa::avx2) return {fma_avx2, 8};
#endif
  return {fma_generic, 4};
}

double measure_fma(ThreadPool& pool) {
  constexpr int64_t kIterations = 2'000'000;
  const FmaLoop loop = choose_fma_loop();
  const double flops = 2.0 * loop.lanes * kChains * kIterations * pool.threads();
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch;
    pool.run([&](int) { sink += static_cast<uint64_t>(loop.run(kIterations)); });
    best = std::max(best, flops / watch.seconds());
  }
  return best;
}

}  // namespace

MachineRoofs measure_roofs(ThreadPool& pool) { return {measure_read(pool), measure_fma(pool)}; }

}  // namespace llamita::cli
