#include "hw/cpu/simd_avx512.h"
#include "ops/linear/int8_kernel.h"
#include "ops/linear/int8_round.h"

namespace llamita {

namespace {

// vpdpbusd: four products of unsigned and signed bytes are added to a lane of int32, without saturation. Two
// ports do that and everything else of the arithmetic, so each instruction beside it counts:
//  - three vectors of rows by eight tokens fill 24 registers (by four, where sub-block scales want a second
//    set of sums): 11 loads (7) for 24 products (12), and chains enough for a latency of five cycles
//  - what an offset takes away is what the sums begin with
//  - a sub-block's sum times its scale is one vpdpwssd where the sum fits into int16, as the activations'
//    reach says (int8.h), against three instructions. Of activations from a normal distribution 84 % of the
//    blocks of Q5_K fit, the rest in halves; 98 % of Q6_K; all of Q4_K
// 64 of 82 instructions of Q5_K multiply: 78 % of the ports' rate. Measured: docs/performance/cpu.md.
struct Int8Avx512 {
  using S = cpu::Avx512;
  using I = S::I;
  static constexpr int kRowVectors = 3;
  static constexpr int kChunk = 256, kBlockTokens = 512;
  static constexpr bool kTakesSigned = false, kVnni = true;
  static constexpr int kGroupTokens = kInt8FewTokensAvx512;

  // Tokens that share the registers with the vectors of rows.
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
  // A sub-block scale stands in the low half of a lane, beside 0.
  LLAMITA_INLINE __m256i low_scales(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi32(0xffff)); }
  LLAMITA_INLINE __m256i scale_lanes(__m256i pairs) { return _mm256_srli_epi32(pairs, 16); }
  LLAMITA_INLINE __m256i high_scales(__m256i v) { return _mm256_srli_epi32(v, 16); }

  // The sums of how many products, centred, fit into int16: of whole sub-blocks, of halves of them where
  // nothing is centred, or of none for sure.
  template <class Format>
  LLAMITA_INLINE int narrow_elems(int reach) {
    constexpr int kSub = int8::Group<Format>::kSub;
    constexpr int kBelow = Format::kOffset, kAbove = Format::kMax - Format::kOffset;
    constexpr int kMost = kBelow > kAbove ? kBelow : kAbove;
    constexpr int kFit = 32767 / kMost;
    if constexpr (kSub * 127 <= kFit) return kSub;
    if constexpr (kSub == 16) return (reach & 0xffff) <= kFit ? 16 : 0;
    return reach >> 16 <= kFit ? 32 : (reach & 0xffff) <= kFit ? 16 : 0;
  }
  // What the products are added to: so much that the weights are centred.
  template <int kOffset, int kUnit, int T>
  LLAMITA_INLINE void start_dots(const int32_t* centres, __m512i (&dots)[kRowVectors][T]) {
    for (int u = 0; u < T; ++u) {
      __m512i centre = _mm512_setzero_si512();
      if constexpr (kOffset != 0) centre = _mm512_set1_epi32(centres[u]);
      if constexpr (kOffset > kUnit) centre = _mm512_slli_epi32(centre, __builtin_ctz(kOffset / kUnit));
      if constexpr (kOffset != 0 && kOffset < kUnit) {
        centre = _mm512_srai_epi32(centre, __builtin_ctz(kUnit / kOffset));
      }
      for (int r = 0; r < kRowVectors; ++r) dots[r][u] = centre;
    }
  }

  // The products of kSteps steps of four elements.
  template <int kSteps, int kRows, int T>
  LLAMITA_INLINE void dot_steps(const uint8_t* w, const int8_t* x, __m512i (&dots)[kRowVectors][T]) {
#pragma GCC unroll 8
    for (int step = 0; step < kSteps; ++step) {
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
  }

  // kElems products at a time go into int16 and are scaled and added by one instruction; with 0 a sub-block's
  // by a multiplication, which is two, and an addition.
  template <class Format, int kElems, int kRows, int T>
  LLAMITA_INLINE void dot_super(const uint8_t* w, const int8_t* x, const int32_t* scales,
                                const int32_t* centres, I (&sums)[kRowVectors][T]) {
    constexpr int kSub = int8::Group<Format>::kSub, kRun = kElems == 0 ? kSub : kElems;
#pragma GCC unroll 1
    for (int sub = 0; sub < 256 / kSub; ++sub) {
#pragma GCC unroll 2
      for (int run = 0; run < kSub; run += kRun) {
        __m512i dots[kRowVectors][T];
        if (run == 0) {
          start_dots<Format::kOffset, centre_unit(Int8Run::of256)>(centres, dots);
        } else {
          start_dots<0, 1>(centres, dots);
        }
        dot_steps<kRun / 4, kRows>(w + run * kRows, x + run * kTileTokens, dots);
        for (int r = 0; r < kRowVectors; ++r) {
          const __m512i scale = load(scales + r * 16).v;
          for (int u = 0; u < T; ++u) {
            if constexpr (kElems != 0) {
              sums[r][u].v = _mm512_dpwssd_epi32(sums[r][u].v, dots[r][u], scale);
            } else {
              const __m512i wide = _mm512_srai_epi32(_mm512_slli_epi32(scale, 16), 16);
              sums[r][u].v = _mm512_add_epi32(sums[r][u].v, _mm512_mullo_epi32(dots[r][u], wide));
            }
          }
        }
      }
      w += kSub * kRows;
      x += kSub * kTileTokens;
      scales += kSub / 16 * kRows;
      centres += kSub / 16 * kTileTokens;
    }
  }

  // The sums of one scale's elements.
  template <class Format, int kOffset, int kRows, int T>
  LLAMITA_INLINE void dot_block(const uint8_t* w, const int8_t* x, const int32_t* scales,
                                const int32_t* centres, const int32_t* reach, I (&sums)[kRowVectors][T]) {
    if constexpr (Format::kSuper) {
      for (int r = 0; r < kRowVectors; ++r) {
        for (int u = 0; u < T; ++u) sums[r][u].v = _mm512_setzero_si512();
      }
      constexpr int kSub = int8::Group<Format>::kSub;
      const int elems = narrow_elems<Format>(*reach);
      if (elems == kSub) {
        dot_super<Format, kSub, kRows>(w, x, scales, centres, sums);
      } else if (elems == 16) {
        dot_super<Format, 16, kRows>(w, x, scales, centres, sums);
      } else {
        dot_super<Format, 0, kRows>(w, x, scales, centres, sums);
      }
    } else {
      __m512i dots[kRowVectors][T];
      start_dots<kOffset, centre_unit(Int8Run::of32)>(centres, dots);
      dot_steps<8, kRows>(w, x, dots);
      for (int r = 0; r < kRowVectors; ++r) {
        for (int u = 0; u < T; ++u) sums[r][u].v = dots[r][u];
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
