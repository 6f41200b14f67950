#include "hw/cpu/simd_avx512.h"
#include "ops/linear/int8_kernel.h"
#include "ops/linear/int8_round.h"

namespace llamita {

namespace {

// vpdpbusd: four products of unsigned and signed bytes are added to a lane of int32, without saturation.
struct Int8Avx512 {
  using S = cpu::Avx512;
  using I = S::I;
  static constexpr int kRowVectors = 2;
  static constexpr bool kTakesSigned = false, kVnni = true;
  static constexpr int kGroupTokens = kInt8FewTokensAvx512;

  // Tokens that share the registers with two vectors of rows: sub-block scales want a second set of sums.
  template <class Format>
  static constexpr int tokens() {
    return Format::kSuper ? 4 : 8;
  }

#define LLAMITA_INLINE [[gnu::always_inline]] static inline
  LLAMITA_INLINE I load(const void* from) { return {_mm512_load_si512(from)}; }
  LLAMITA_INLINE I subtract(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
  LLAMITA_INLINE I add_pairs(I sum, I a, I b) { return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)}; }
  LLAMITA_INLINE __m256i dot(__m256i sum, __m256i w, __m256i x) { return _mm256_dpbusd_epi32(sum, w, x); }
  LLAMITA_INLINE __m256i dot_pairs(__m256i sum, __m256i a, __m256i b) {
    return _mm256_dpwssd_epi32(sum, a, b);
  }
  // A sub-block scale as int32.
  LLAMITA_INLINE __m256i low_scales(__m256i v) { return _mm256_srai_epi32(_mm256_slli_epi32(v, 16), 16); }
  LLAMITA_INLINE __m256i scale_lanes(__m256i pairs) { return _mm256_srai_epi32(pairs, 16); }
  LLAMITA_INLINE __m256i high_scales(__m256i v) { return _mm256_srai_epi32(v, 16); }

  template <class Format, int kRows, int T>
  LLAMITA_INLINE void dot32(const uint8_t* w, const int8_t* x, const int32_t* scales,
                            I (&sums)[kRowVectors][T]) {
    constexpr int kSteps = Format::kSuper ? int8::Group<Format>::kSub / 4 : 8;
#pragma GCC unroll 2
    for (int run = 0; run < 8; run += kSteps) {
      __m512i dots[kRowVectors][T];
      for (int r = 0; r < kRowVectors; ++r) {
        for (int u = 0; u < T; ++u) dots[r][u] = Format::kSuper ? _mm512_setzero_si512() : sums[r][u].v;
      }
#pragma GCC unroll 8
      for (int step = run; step < run + kSteps; ++step) {
        __m512i weight[kRowVectors];
        for (int r = 0; r < kRowVectors; ++r) weight[r] = load(w + step * kRows * 4 + r * 64).v;
        for (int u = 0; u < T; ++u) {
          int four;
          __builtin_memcpy(&four, x + (step * kTileTokens + u) * 4, sizeof four);
          const __m512i values = _mm512_set1_epi32(four);
          for (int r = 0; r < kRowVectors; ++r) {
            dots[r][u] = _mm512_dpbusd_epi32(dots[r][u], weight[r], values);
          }
        }
      }
      for (int r = 0; r < kRowVectors; ++r) {
        for (int u = 0; u < T; ++u) {
          if constexpr (Format::kSuper) {
            const __m512i scale = load(scales + run / 4 * kRows + r * 16).v;
            sums[r][u].v = _mm512_add_epi32(sums[r][u].v, _mm512_mullo_epi32(dots[r][u], scale));
          } else {
            sums[r][u].v = dots[r][u];
          }
        }
      }
    }
  }
#undef LLAMITA_INLINE
};

}  // namespace

void int8_multiply_avx512(const Int8Job& job, int64_t begin, int64_t end) {
  int8::multiply<Int8Avx512>(job, begin, end);
}
void int8_round_row_avx512(const float* x, int64_t K, int64_t t, const Int8Rows& to) {
  int8::round_row(x, K, t, to);
}
void int8_pack_tile_avx512(int64_t K, int64_t t, int64_t count, const Int8Rows& x) {
  int8::pack_tile(K, t, count, x);
}

}  // namespace llamita
