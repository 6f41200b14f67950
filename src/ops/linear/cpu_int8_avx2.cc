#include "hw/cpu/simd_avx2.h"
#include "ops/linear/int8_kernel.h"
#include "ops/linear/int8_round.h"

namespace llamita {

namespace {

// maddubs: unsigned times signed bytes, neighbours added in int16, which saturates. Two products of a weight
// up to kMax stay below 2 * kMax * 127, so that several such pairs fit before they must be widened.
struct Int8Avx2 {
  using S = cpu::Avx2;
  using I = S::I;
  static constexpr int kRowVectors = 2;
  static constexpr int kChunk = 512, kBlockTokens = 256;
  static constexpr bool kTakesSigned = true, kVnni = false;
  static constexpr int kGroupTokens = kInt8FewTokensAvx2;

  // Tokens that share the registers with two vectors of rows.
  template <class Format>
  static constexpr int tokens() {
    return 4;
  }

#define LLAMITA_INLINE [[gnu::always_inline]] static inline
  LLAMITA_INLINE I load(const void* from) { return {_mm256_load_si256(static_cast<const __m256i*>(from))}; }
  LLAMITA_INLINE I subtract(I a, I b) { return {_mm256_sub_epi32(a.v, b.v)}; }
  LLAMITA_INLINE I add_pairs(I sum, I a, I b) {
    return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))};
  }
  // A sub-block scale stands in both halves of a lane: widening the pairs multiplies by it at no cost.
  LLAMITA_INLINE __m256i low_scales(__m256i v) {
    return _mm256_blend_epi16(v, _mm256_slli_epi32(v, 16), 0xaa);
  }
  LLAMITA_INLINE __m256i scale_lanes(__m256i pairs) { return pairs; }
  LLAMITA_INLINE __m256i high_scales(__m256i v) {
    return _mm256_blend_epi16(_mm256_srli_epi32(v, 16), v, 0xaa);
  }

  // Compilers rebalance chains of integer additions into trees, here of 64 products that no register is left
  // for: four fifths of the instructions were spills. A value that they cannot see through stays a chain.
  LLAMITA_INLINE void keep_order(__m256i& v) { asm("" : "+x"(v)); }

  // Steps of four elements whose pairs fit into int16 together, within a sub-block where there are any.
  template <class Format>
  static constexpr int steps() {
    const int fit = 32767 / (2 * Format::kMax * 127);
    return fit >= 8 && int8::Group<Format>::kSub == 32 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
  }

  template <class Format, int kRows, int T>
  LLAMITA_INLINE void dot32(const uint8_t* w, const int8_t* x, const int32_t* scales,
                            I (&sums)[kRowVectors][T]) {
    if constexpr (Format::kSigned) return dot32_signed<kRows>(w, x, sums);
    constexpr int kSteps = steps<Format>();
#pragma GCC unroll 8
    for (int run = 0; run < 8; run += kSteps) {
      __m256i pairs[kRowVectors][T];
#pragma GCC unroll 8
      for (int step = run; step < run + kSteps; ++step) {
        __m256i weight[kRowVectors];
        for (int r = 0; r < kRowVectors; ++r) weight[r] = load(w + step * kRows * 4 + r * 32).v;
        for (int u = 0; u < T; ++u) {
          int four;
          __builtin_memcpy(&four, x + (step * kTileTokens + u) * 4, sizeof four);
          const __m256i values = _mm256_set1_epi32(four);
          for (int r = 0; r < kRowVectors; ++r) {
            const __m256i products = _mm256_maddubs_epi16(weight[r], values);
            pairs[r][u] = step == run ? products : _mm256_add_epi16(pairs[r][u], products);
            keep_order(pairs[r][u]);
          }
        }
      }
      for (int r = 0; r < kRowVectors; ++r) {
        const __m256i scale =
            Format::kSuper ? load(scales + run / 4 * kRows + r * 8).v : _mm256_set1_epi16(1);
        for (int u = 0; u < T; ++u) {
          sums[r][u].v = _mm256_add_epi32(sums[r][u].v, _mm256_madd_epi16(pairs[r][u], scale));
          keep_order(sums[r][u].v);
        }
      }
    }
  }

  // Sizes as unsigned, signs given to the activations; one pair of products fills int16. One vector of rows
  // at a time, because both would take more registers than there are; broadcasting again costs a load.
  template <int kRows, int T>
  LLAMITA_INLINE void dot32_signed(const uint8_t* w, const int8_t* x, I (&sums)[kRowVectors][T]) {
#pragma GCC unroll 8
    for (int step = 0; step < 8; ++step) {
#pragma GCC unroll 2
      for (int r = 0; r < kRowVectors; ++r) {
        const __m256i weight = load(w + step * kRows * 4 + r * 32).v;
        const __m256i size = _mm256_abs_epi8(weight);  // 128 for -128: right as unsigned
#pragma GCC unroll 8
        for (int u = 0; u < T; ++u) {
          int four;
          __builtin_memcpy(&four, x + (step * kTileTokens + u) * 4, sizeof four);
          const __m256i values = _mm256_sign_epi8(_mm256_set1_epi32(four), weight);
          const __m256i pairs = _mm256_maddubs_epi16(size, values);
          sums[r][u].v = _mm256_add_epi32(sums[r][u].v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
          keep_order(sums[r][u].v);
        }
      }
    }
  }
#undef LLAMITA_INLINE
};

}  // namespace

void int8_multiply_avx2(const Int8Job& job, int64_t begin, int64_t end) {
  int8::multiply<Int8Avx2>(job, begin, end);
}
void int8_round_row_avx2(const float* x, int64_t K, int64_t t, const Int8Rows& to) {
  int8::round_row(x, K, t, to);
}
void int8_pack_tile_avx2(int64_t K, int64_t t, int64_t count, const Int8Rows& x) {
  int8::pack_tile(K, t, count, x);
}

}  // namespace llamita
