#include "ops/cpu_roofs.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>

#include "base/thread_pool.h"
#include "base/timer.h"
#include "hw/cpu/isa.h"
#include "tensor/storage.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace llamita::bench {

namespace {

constexpr int kPasses = 5;   // the best one counts: everything that disturbs makes a pass slower
constexpr int kChains = 12;  // in flight: latency 5 x 2 a cycle = 10, and some more
constexpr int64_t kIterations = 1'000'000;

std::atomic<uint64_t> sink{0};  // what the loops compute ends here, so that they cannot be left out

// A loop of kChains chains of one instruction (or a pair), and the operations one of them does.
struct Loop {
  int (*run)() = nullptr;
  double operations = 0;
};

#if defined(__x86_64__)
#define LLAMITA_CHAINS(Vector, Set, step)                                  \
  const Vector one = Set(1);                                               \
  Vector chains[kChains];                                                  \
  for (int c = 0; c < kChains; ++c) chains[c] = Set(static_cast<char>(c)); \
  for (int64_t i = 0; i < kIterations; ++i) {                              \
    _Pragma("GCC unroll 12") for (int c = 0; c < kChains; ++c) {           \
      const Vector chain = chains[c];                                      \
      chains[c] = step;                                                    \
    }                                                                      \
  }                                                                        \
  Vector all = chains[0];                                                  \
  for (int c = 1; c < kChains; ++c) all = all + chains[c];

__attribute__((target("avx2,fma"))) int f32_avx2() {
  LLAMITA_CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps(chain, one, one))
  return static_cast<int>(_mm256_cvtss_f32(all));
}
__attribute__((target("avx2"))) int int8_avx2() {
  LLAMITA_CHAINS(__m256i, _mm256_set1_epi8, _mm256_add_epi16(chain, _mm256_maddubs_epi16(one, chain)))
  return _mm256_extract_epi32(all, 0);
}
__attribute__((target("avx512f"))) int f32_avx512() {
  LLAMITA_CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps(chain, one, one))
  return static_cast<int>(_mm512_cvtss_f32(all));
}
__attribute__((target("avx512f,avx512vnni"))) int int8_avx512() {
  LLAMITA_CHAINS(__m512i, _mm512_set1_epi8, _mm512_dpbusd_epi32(chain, one, one))
  return _mm512_cvtsi512_si32(all);
}
__attribute__((target("avx512f,avx512bf16"))) int bf16_avx512() {
  const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  LLAMITA_CHAINS(__m512, _mm512_set1_ps, _mm512_dpbf16_ps(chain, ones, ones))
  return static_cast<int>(_mm512_cvtss_f32(_mm512_add_ps(all, one)));
}
#undef LLAMITA_CHAINS
#endif

double operations_a_second(ThreadPool& pool, const Loop& loop) {
  if (loop.run == nullptr) return 0;
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch;
    pool.run([&](int) { sink += static_cast<uint64_t>(loop.run()); });
    best = std::max(best, loop.operations * kChains * kIterations * pool.threads() / watch.seconds());
  }
  return best;
}

double bytes_a_second(ThreadPool& pool) {
  constexpr int64_t kWords = int64_t{64} << 20;  // 512 MiB: far larger than any cache
  const int64_t share = kWords / pool.threads();
  const Storage storage =
      Storage::allocate(static_cast<size_t>(8 * kWords));  // in huge pages, as weights are
  auto* data = static_cast<uint64_t*>(storage.data());
  std::fill_n(data, kWords, uint64_t{1});
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch;
    pool.run([&](int thread) {
      const uint64_t* from = data + thread * share;
      uint64_t lanes[16] = {};
      for (int64_t i = 0; i + 16 <= share; i += 16) {
        for (int line = 0; line < 16; line += 8) __builtin_prefetch(from + i + 256 + line);  // 2 KiB ahead
        for (int lane = 0; lane < 16; ++lane) lanes[lane] += from[i + lane];
      }
      for (const uint64_t lane : lanes) sink += lane;
    });
    best = std::max(best, static_cast<double>(8 * share * pool.threads()) / watch.seconds());
  }
  return best;
}

}  // namespace

const CpuRoofs& cpu_roofs(int threads) {
  static std::map<int, CpuRoofs> known;
  const auto [found, is_new] = known.try_emplace(threads);
  CpuRoofs& roofs = found->second;
  if (!is_new) return roofs;
  ThreadPool pool(threads);
  Loop f32, bf16, int8;
#if defined(__x86_64__)
  if (cpu::best_isa() >= cpu::Isa::avx512) {
    f32 = {f32_avx512, 32}, bf16 = {bf16_avx512, 64}, int8 = {int8_avx512, 128};
  } else if (cpu::best_isa() >= cpu::Isa::avx2) {
    f32 = {f32_avx2, 16}, int8 = {int8_avx2, 64};
  }
#endif
  roofs.read_bytes = bytes_a_second(pool);
  roofs.f32_flops = operations_a_second(pool, f32);
  roofs.bf16_flops = bf16.run == nullptr ? roofs.f32_flops : operations_a_second(pool, bf16);
  roofs.int8_operations = operations_a_second(pool, int8);
  return roofs;
}

}  // namespace llamita::bench
