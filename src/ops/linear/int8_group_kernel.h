// The integer kernel for few tokens of an interleaved weight: a lane is a row, so that eight outputs grow
// side by side, the weights go from the load through a shift and a mask into the multiplier, and a group of
// eight rows is one stream of memory. Bound by reading the weights: 8 x 32 of Q4_1 take about 50 instructions
// for 160 bytes with AVX2 and 30 with VNNI, 10 and 7 cycles against some 40 that DRAM takes; a further token
// takes 20 and 12. 256-bit instructions do for both instruction sets: with 512 bits the multipliers of some
// processors do no more, and a group would be sixteen rows. The sums are exact, so the bits are those of
// every other integer kernel.
#pragma once

#include "ops/linear/int8.h"
#include "ops/linear/int8_group_decode.h"

namespace llamita::int8 {

// Of D: kVnni, and with it dot(sum, unsigned bytes, signed bytes) and dot_pairs(sum, int16s, int16s), which
// add a lane's four or two products to it; kGroupTokens, the most tokens.
template <class D, class Format, int T>
struct GroupTokens {
  using Block = typename Format::Block;
  using Layout = Group<Format>;
  static constexpr int kRows = 8;
  static constexpr int64_t kBlockBytes = kRows * int64_t{sizeof(Block)};
  static constexpr int kRun = Format::kSuper ? 256 : 32;
  // Ahead of what is read, in bytes: past DRAM's latency at the rate of a core, within a page or so.
  static constexpr int kAhead = 2048;
  // Steps of four elements whose products, in pairs, fit into int16 together, within a sub-block.
  static constexpr int kFit = Format::kSigned ? 1 : 32767 / (2 * Format::kMax * 127);
  static constexpr int kMost = Layout::kSub / 4;
  static constexpr int kSteps = kFit >= kMost ? kMost : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  static constexpr bool kFlip = D::kVnni && Format::kSigned;  // w + 128 as unsigned
  static constexpr int kOffset = kFlip ? 128 : Format::kOffset;

  [[gnu::always_inline]] static __m256i four_of(const int8_t* x) {
    int four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
  // A value that the compiler cannot see through: chains of additions stay chains, in registers.
  [[gnu::always_inline]] static void keep_order(__m256i& v) { asm("" : "+x"(v)); }

  // The same with instructions that add four products to an int32.
  [[gnu::always_inline]] static void dot32_vnni(const __m256i (&w)[8], int sub, const int8_t* x,
                                                int64_t stride, const __m256i (&scales)[4],
                                                __m256i (&sums)[T]) {
    constexpr int kRunSteps = Format::kSuper ? kMost : 8;
#pragma GCC unroll 8
    for (int run = 0; run < 8; run += kRunSteps) {
      const __m256i scale = Format::kSuper
                                ? _mm256_srai_epi32(scale_of_half<Format>(scales, sub, run / 4), 16)
                                : _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int u = 0; u < T; ++u) {
        __m256i dots = Format::kSuper ? _mm256_setzero_si256() : sums[u];
#pragma GCC unroll 8
        for (int i = run; i < run + kRunSteps; ++i) {
          const __m256i unsigned_w = kFlip ? _mm256_xor_si256(w[i], _mm256_set1_epi8(-128)) : w[i];
          dots = D::dot(dots, unsigned_w, four_of(x + u * stride + 4 * i));
        }
        sums[u] = Format::kSuper ? _mm256_add_epi32(sums[u], _mm256_mullo_epi32(dots, scale)) : dots;
      }
    }
  }

  // sums += the products of 32 elements, times their scales.
  [[gnu::always_inline]] static void dot32(const uint8_t* block, int sub, const int8_t* x, int64_t stride,
                                           const __m256i (&scales)[4], __m256i (&sums)[T]) {
    __m256i w[8];
    Layout::steps(block, sub, w);
    if constexpr (D::kVnni) return dot32_vnni(w, sub, x, stride, scales, sums);
#pragma GCC unroll 8
    for (int run = 0; run < 8; run += kSteps) {
      const __m256i scale =
          Format::kSuper ? scale_of_half<Format>(scales, sub, run / 4) : _mm256_set1_epi16(1);
#pragma GCC unroll 4
      for (int u = 0; u < T; ++u) {
        __m256i pairs;
#pragma GCC unroll 8
        for (int i = run; i < run + kSteps; ++i) {
          const __m256i values = four_of(x + u * stride + 4 * i);
          const __m256i products =
              Format::kSigned ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[i]), _mm256_sign_epi8(values, w[i]))
                              : _mm256_maddubs_epi16(w[i], values);
          pairs = i == run ? products : _mm256_add_epi16(pairs, products);
          keep_order(pairs);
        }
        sums[u] = _mm256_add_epi32(sums[u], _mm256_madd_epi16(pairs, scale));
        keep_order(sums[u]);
      }
    }
  }

  // min_sums += the activations' sums of 32 elements times the mins, or the scales where an offset wants
  // them.
  [[gnu::always_inline]] static void add_sums(const Int8Job& job, int64_t t, int64_t at, int sub,
                                              const __m256i (&bytes)[4], __m256i (&min_sums)[T]) {
    const __m256i pair = pair_of_scales<Format>(bytes, sub);
    for (int u = 0; u < T; ++u) {
      const __m256i x = _mm256_set1_epi32(job.x.sums[(t + u) * (job.plain.K / 32) + at]);
      if constexpr (D::kVnni) {
        min_sums[u] = D::dot_pairs(min_sums[u], pair, x);
      } else {
        min_sums[u] = _mm256_add_epi32(min_sums[u], _mm256_madd_epi16(pair, x));
      }
    }
  }

  // acc with one block added, the lines of int8.h.
  [[gnu::always_inline]] static void add_plain(const Int8Job& job, const uint8_t* block, int64_t t, int64_t b,
                                               __m256 (&acc)[T]) {
    const int64_t K = job.plain.K;
    const __m256i no_scales[4] = {};
    __m256i sums[T];
    for (__m256i& sum : sums) sum = _mm256_setzero_si256();
    dot32(block, 0, job.x.q + t * K + 32 * b, K, no_scales, sums);
    const __m256 d = halves_at(block, offsetof(Block, d));
    for (int u = 0; u < T; ++u) {
      const int64_t at = (t + u) * (K / 32) + b;
      if (kOffset != 0) {
        sums[u] = _mm256_sub_epi32(sums[u], _mm256_set1_epi32(kOffset * job.x.sums[at]));
      }
      const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(job.x.scales[at]));
      acc[u] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sums[u]), acc[u]);
      if constexpr (Format::kMins) {
        const __m256 m = halves_at(block, offsetof(Block, m));
        acc[u] = _mm256_fmadd_ps(m, _mm256_set1_ps(job.x.scaled_sums[at]), acc[u]);
      }
    }
  }

  [[gnu::always_inline]] static void add_super(const Int8Job& job, const uint8_t* block, int64_t t, int64_t b,
                                               __m256 (&acc)[T]) {
    const int64_t K = job.plain.K;
    __m256i scales[4], mins[4], sums[T], min_sums[T];
    for (int u = 0; u < T; ++u) sums[u] = min_sums[u] = _mm256_setzero_si256();
    Layout::scales(block, scales);
    if constexpr (Format::kMins) Layout::mins(block, mins);
#pragma GCC unroll 8
    for (int sub = 0; sub < 8; ++sub) {
      dot32(block, sub, job.x.q + t * K + 256 * b + 32 * sub, K, scales, sums);
      if constexpr (Format::kMins) add_sums(job, t, 8 * b + sub, sub, mins, min_sums);
      if constexpr (Format::kOffset != 0) add_sums(job, t, 8 * b + sub, sub, scales, min_sums);
    }
    const __m256 d = halves_at(block, offsetof(Block, d));
    for (int u = 0; u < T; ++u) {
      if constexpr (Format::kOffset != 0) {
        sums[u] = _mm256_sub_epi32(sums[u], _mm256_slli_epi32(min_sums[u], Format::kOffset == 32 ? 5 : 2));
      }
      const __m256 d_x = _mm256_set1_ps(job.x.scales[(t + u) * (K / 256) + b]);
      acc[u] = _mm256_fmadd_ps(_mm256_mul_ps(d, d_x), _mm256_cvtepi32_ps(sums[u]), acc[u]);
      if constexpr (Format::kMins) {
        const __m256 min = _mm256_mul_ps(halves_at(block, offsetof(Block, dmin)), _mm256_set1_ps(-1.0f));
        acc[u] = _mm256_fmadd_ps(_mm256_mul_ps(min, d_x), _mm256_cvtepi32_ps(min_sums[u]), acc[u]);
      }
    }
  }

  static void write(const LinearJob& job, int64_t t, int64_t n, __m256 value) {
    if (job.bias != nullptr) value = _mm256_add_ps(value, _mm256_loadu_ps(job.bias + n));
    if (job.residual != nullptr) {
      value = _mm256_add_ps(value, _mm256_loadu_ps(job.residual + t * job.residual_stride + n));
    }
    _mm256_storeu_ps(job.out + t * job.out_stride + n, value);
  }

  // Rows [begin, end), whole groups, for tokens t to t + T - 1.
  [[gnu::noinline]] static void run(const Int8Job& job, int64_t t, int64_t begin, int64_t end) {
    const int64_t blocks = job.plain.K / kRun;
    for (int64_t n = begin; n < end; n += kRows) {
      const uint8_t* block = job.plain.weight + n * job.plain.weight_stride;
      __m256 acc[T];
      for (__m256& lane : acc) lane = _mm256_setzero_ps();
      for (int64_t b = 0; b < blocks; ++b, block += kBlockBytes) {
        for (int64_t line = 0; line < kBlockBytes; line += 64) __builtin_prefetch(block + kAhead + line);
        if constexpr (Format::kSuper) {
          add_super(job, block, t, b, acc);
        } else {
          add_plain(job, block, t, b, acc);
        }
      }
      for (int u = 0; u < T; ++u) write(job.plain, t + u, n, acc[u]);
    }
  }
};

template <class D, class Format, int T = 1>
static void run_groups(const Int8Job& job, int64_t begin, int64_t end) {
  if (job.plain.T == T) return GroupTokens<D, Format, T>::run(job, 0, begin, end);
  if constexpr (T < D::kGroupTokens) run_groups<D, Format, T + 1>(job, begin, end);
}

}  // namespace llamita::int8
