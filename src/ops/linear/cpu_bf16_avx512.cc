// bf16 weights by bf16 activations: vdpbf16ps adds two products to each of 16 lanes, twice the products of an
// f32 multiply-add, from half the bytes. Weights are read as they lie in the file: nothing is unpacked.
//
// Reduction order, the same at any T: lane l of an output's accumulator takes elements 32 i + 2 l and 32 i +
// 2 l + 1 for ascending i, as the instruction adds them (each product and sum rounded to nearest even,
// denormals as zero); then the lanes are added in the tree of Avx512::sum.
//
// Sixteen accumulators live in registers: 4 rows x 4 tokens, of which one step of 16 products-and-sums loads
// eight vectors. A block of kBf16BlockRows rows stays in L2 while the tokens go by in fours, so that what is
// read again for every block is the activations: 2 T K bytes for kBf16BlockRows T K products. With fewer
// tokens the accumulators go to more rows, four at a time, because eight streams of memory and more are slow;
// the kernel is then bound by reading the weights.
#include "hw/cpu/simd_avx512.h"
#include "ops/linear/kernels.h"

namespace llamita {

namespace {

constexpr int kSums = 16, kRowsAtOnce = 4, kTokensAtOnce = 4;

#define LLAMITA_INLINE [[gnu::always_inline]] static inline

LLAMITA_INLINE __m512bh as_pairs(__m512i v) { return reinterpret_cast<__m512bh>(v); }
LLAMITA_INLINE __m512bh load(const uint8_t* from) { return as_pairs(_mm512_loadu_si512(from)); }

// sums[r * T + u] of four rows and T tokens. Rows past the last one repeat it.
template <int T>
LLAMITA_INLINE void multiply_rows(const Bf16Job& job, int64_t n, int64_t end, int64_t t,
                                  cpu::Avx512::F* sums) {
  const uint8_t* rows[kRowsAtOnce];
  const uint8_t* x[T];
  const int64_t K = job.plain.K;
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = n + r < end ? n + r : end - 1;
    rows[r] = job.plain.weight + row * job.plain.weight_stride;
  }
  for (int u = 0; u < T; ++u) x[u] = reinterpret_cast<const uint8_t*>(job.x + (t + u) * job.x_stride);
  for (int i = 0; i < kRowsAtOnce * T; ++i) sums[i] = cpu::Avx512::zero();
  // With few tokens each row is read once: the rows after the next ones are fetched in time.
  const int64_t ahead = T < kTokensAtOnce ? kRowsAtOnce * job.plain.weight_stride : 0;
  int64_t at = 0;
  for (; at + 64 <= 2 * K; at += 64) {
    __m512bh w[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) {
      w[r] = load(rows[r] + at);
      if (T < kTokensAtOnce) __builtin_prefetch(rows[r] + at + ahead);
    }
    for (int u = 0; u < T; ++u) {
      const __m512bh values = load(x[u] + at);
      for (int r = 0; r < kRowsAtOnce; ++r) {
        sums[r * T + u].v = _mm512_dpbf16_ps(sums[r * T + u].v, w[r], values);
      }
    }
  }
  if (at == 2 * K) return;
  const auto rest = static_cast<__mmask32>((uint32_t{1} << (K - at / 2)) - 1);
  for (int u = 0; u < T; ++u) {
    const __m512bh values = load(x[u] + at);  // zeros after K
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const __m512bh w = as_pairs(_mm512_maskz_loadu_epi16(rest, rows[r] + at));
      sums[r * T + u].v = _mm512_dpbf16_ps(sums[r * T + u].v, w, values);
    }
  }
}

// Sixteen sums' worth of rows from n on, for T tokens from t.
template <int T>
[[gnu::noinline]] void tile(const Bf16Job& job, int64_t n, int64_t end, int64_t t) {
  constexpr int kSteps = kSums / (kRowsAtOnce * T), kUsed = kSteps * kRowsAtOnce * T;
  cpu::Avx512::F sums[kSums];
#pragma GCC unroll 4
  for (int step = 0; step < kSteps; ++step) {
    multiply_rows<T>(job, n + step * kRowsAtOnce, end, t, sums + step * kRowsAtOnce * T);
  }
  for (int i = kUsed; i < kSums; ++i) sums[i] = cpu::Avx512::zero();
  alignas(64) float values[kSums];
  cpu::Avx512::store(values, cpu::Avx512::sums(sums));
  const LinearJob& plain = job.plain;
  for (int r = 0; r < kUsed / T && n + r < end; ++r) {
    for (int u = 0; u < T; ++u) {
      float value = values[r * T + u];
      if (plain.bias != nullptr) value += plain.bias[n + r];
      if (plain.residual != nullptr) value += plain.residual[(t + u) * plain.residual_stride + n + r];
      plain.out[(t + u) * plain.out_stride + n + r] = value;
    }
  }
}

template <int T>
void few_tokens(const Bf16Job& job, int64_t begin, int64_t end, int64_t t) {
  constexpr int64_t kRows = kSums / (kRowsAtOnce * T) * kRowsAtOnce;
  for (int64_t n = begin; n < end; n += kRows) tile<T>(job, n, end, t);
}

#undef LLAMITA_INLINE

}  // namespace

void bf16_round_row_avx512(const float* x, int64_t K, uint16_t* to) {
  for (int64_t k = 0; k < K; k += 16) {
    const int64_t left = K - k;
    const auto live = static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1);
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(live, x + k));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k), reinterpret_cast<__m256i>(rounded));
  }
  if ((K + 15) / 16 % 2 == 1) {  // a group of 32 is half full
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (K + 15) / 16 * 16), _mm256_setzero_si256());
  }
}

void bf16_multiply_avx512(const Bf16Job& job, int64_t begin, int64_t end) {
  const int64_t T = job.plain.T;
  for (int64_t n = begin; n < end; n += kBf16BlockRows) {
    const int64_t block_end = n + kBf16BlockRows < end ? n + kBf16BlockRows : end;
    for (int64_t t = 0; t + kTokensAtOnce <= T; t += kTokensAtOnce) {
      for (int64_t r = n; r < block_end; r += kRowsAtOnce) tile<kTokensAtOnce>(job, r, block_end, t);
    }
    const int64_t t = T / kTokensAtOnce * kTokensAtOnce;
    if (T - t == 3) few_tokens<3>(job, n, block_end, t);
    if (T - t == 2) few_tokens<2>(job, n, block_end, t);
    if (T - t == 1) few_tokens<1>(job, n, block_end, t);
  }
}

}  // namespace llamita
