// Activations to int8, as int8.h defines it, with 256-bit instructions. Include only in per-ISA files.
#pragma once

#include <immintrin.h>

#include "ops/linear/int8.h"
#include "ops/linear/int8_turn.h"

namespace llamita::int8 {

#define LLAMITA_INLINE [[gnu::always_inline]] static inline

// |x| as integers, which order as the floats do, with NaN on top: a NaN reaches the scale and the output.
LLAMITA_INLINE __m256i magnitudes(const float* x) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
}

LLAMITA_INLINE __m128i largest_lane(__m256i v) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
}

// 32 elements times `factor` to nearest even, as bytes; the sums of the first and of the other 16.
LLAMITA_INLINE void round32(const float* x, float factor, int8_t* q, int (&sums)[2]) {
  __m256i v[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(factor));
    const __m256 below = _mm256_min_ps(scaled, _mm256_set1_ps(127.0f));  // NaN becomes the bound
    v[i] = _mm256_cvtps_epi32(_mm256_max_ps(below, _mm256_set1_ps(-127.0f)));
  }
  // Packing works within halves: the permutation puts the words back.
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q),
                      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  for (int i = 0; i < 2; ++i) {
    const __m256i both = _mm256_add_epi32(v[2 * i], v[2 * i + 1]);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    sums[i] = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
  }
}

LLAMITA_INLINE float through_f16(float value) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT)));
}

LLAMITA_INLINE float as_float(__m128i v) { return _mm_cvtss_f32(_mm_castsi128_ps(v)); }

LLAMITA_INLINE void round_runs_of_32(const float* x, int64_t K, int64_t t, const Int8Rows& to) {
  for (int64_t b = 0; b < K / 32; ++b) {
    __m256i m = magnitudes(x + 32 * b);
    for (int i = 1; i < 4; ++i) m = _mm256_max_epi32(m, magnitudes(x + 32 * b + 8 * i));
    const float most = as_float(largest_lane(m)), d = most / 127.0f;
    int sums[2];
    round32(x + 32 * b, most != 0 ? 127.0f / most : 0.0f, to.q + t * K + 32 * b, sums);
    const int64_t at = t * (K / 32) + b;
    to.scales[at] = through_f16(d);
    to.scaled_sums[at] = through_f16(d * static_cast<float>(sums[0] + sums[1]));
    to.sums[at] = sums[0] + sums[1];
  }
}

// The first element of x as large as the largest, with its sign.
LLAMITA_INLINE float first_of(const float* x, __m128i most) {
  const __m256i wanted = _mm256_broadcastd_epi32(most);
  for (int i = 0; i < 256; i += 8) {
    const auto found = static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(magnitudes(x + i), wanted))));
    if (found != 0) return x[i + __builtin_ctz(found)];
  }
  return 0;
}

LLAMITA_INLINE void round_runs_of_256(const float* x, int64_t K, int64_t t, const Int8Rows& to) {
  for (int64_t b = 0; b < K / 256; ++b, x += 256) {
    __m256i m = magnitudes(x);
    for (int i = 8; i < 256; i += 8) m = _mm256_max_epi32(m, magnitudes(x + i));
    const float most = first_of(x, largest_lane(m)), factor = most != 0 ? -127.0f / most : 0.0f;
    to.scales[t * (K / 256) + b] = most != 0 ? 1.0f / factor : 0.0f;
    for (int i = 0; i < 8; ++i) {
      int sums[2];
      round32(x + 32 * i, factor, to.q + t * K + 256 * b + 32 * i, sums);
      to.sums[t * (K / 32) + 8 * b + i] =
          (sums[0] & 0xffff) | static_cast<int>(static_cast<unsigned>(sums[1]) << 16);
    }
  }
}

LLAMITA_INLINE void round_row(const float* x, int64_t K, int64_t t, const Int8Rows& to) {
  if (to.run == Int8Run::of32) round_runs_of_32(x, K, t, to);
  if (to.run == Int8Run::of256) round_runs_of_256(x, K, t, to);
}

// 32-bit words of rows [t, t + count), `words` of each, in tiles: word i of the tile's row u at to[8 i + u].
// Rows past the last one repeat it.
LLAMITA_INLINE void pack_words(const void* rows, int64_t words, int64_t t, int64_t count, void* to) {
  const auto* first = static_cast<const int32_t*>(rows) + t * words;
  auto* out = static_cast<int32_t*>(to) + t * words;
  const auto row = [&](int u) { return first + (u < count ? u : count - 1) * words; };
  int64_t i = 0;
  for (; i + 8 <= words; i += 8) {
    __m256i in[8], turned[8];
    for (int u = 0; u < 8; ++u) in[u] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row(u) + i));
    turn(in, turned);
    for (int j = 0; j < 8; ++j) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * (i + j)), turned[j]);
  }
  for (; i < words; ++i) {
    for (int u = 0; u < kTileTokens; ++u) out[8 * i + u] = row(u)[i];
  }
}

// The words of a tile that follow from its sums: int8.h's tile_centres and tile_pair_sums.
LLAMITA_INLINE void derive_from_sums(int64_t K, int64_t t, const Int8Rows& x) {
  const bool halves = x.run == Int8Run::of256;  // a word of sums holds two
  const __m256i factor = _mm256_set1_epi32(-centre_unit(x.run));
  const auto at = [&](int32_t* tiles, int64_t elems, int64_t i) {
    return reinterpret_cast<__m256i*>(tiles + t * (K / elems) + i * kTileTokens);
  };
  const auto sums_at = [&](int64_t i) { return _mm256_loadu_si256(at(x.tile_sums, 32, i)); };
  const auto low = [](__m256i v) { return _mm256_srai_epi32(_mm256_slli_epi32(v, 16), 16); };
  const auto high = [](__m256i v) { return _mm256_srai_epi32(v, 16); };
  for (int64_t i = 0; i < K / 32; ++i) {
    const __m256i sums = sums_at(i);
    if (!halves) {
      _mm256_storeu_si256(at(x.tile_centres, 32, i), _mm256_mullo_epi32(sums, factor));
      continue;
    }
    _mm256_storeu_si256(at(x.tile_centres, 16, 2 * i), _mm256_mullo_epi32(low(sums), factor));
    _mm256_storeu_si256(at(x.tile_centres, 16, 2 * i + 1), _mm256_mullo_epi32(high(sums), factor));
    if (i % 2 == 0) continue;
    const __m256i before = sums_at(i - 1);
    const __m256i first = _mm256_add_epi32(low(before), high(before));
    const __m256i second = _mm256_add_epi32(low(sums), high(sums));
    _mm256_storeu_si256(at(x.tile_pair_sums, 64, i / 2),
                        _mm256_blend_epi16(first, _mm256_slli_epi32(second, 16), 0xaa));
  }
}

// Of 256 elements and the sums of their sixteens: the halves of int8.h's tile_reach.
LLAMITA_INLINE void reach_of(const int8_t* q, const int32_t* sums, int& of16, int& of32) {
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < 8; ++i) {
    const __m256i sizes = _mm256_abs_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + 32 * i)));
    const __m256i eights = _mm256_sad_epu8(sizes, _mm256_setzero_si256());
    const __m256i sixteens = _mm256_add_epi32(eights, _mm256_shuffle_epi32(eights, 0x4e));
    most = _mm256_max_epi32(most, sixteens);
    const int all = _mm_cvtsi128_si32(
        _mm_add_epi32(_mm256_castsi256_si128(sixteens), _mm256_extracti128_si256(sixteens, 1)));
    const int sum = static_cast<int16_t>(sums[i] & 0xffff) + (sums[i] >> 16);
    const int larger = (all + (sum < 0 ? -sum : sum)) / 2;
    of32 = larger > of32 ? larger : of32;
  }
  const int first = _mm256_extract_epi32(most, 0), second = _mm256_extract_epi32(most, 4);
  of16 = first > of16 ? first : of16;
  of16 = second > of16 ? second : of16;
}

// The rounded rows from t on, at most kTileTokens, into their tile.
LLAMITA_INLINE void pack_tile(int64_t K, int64_t t, int64_t count, const Int8Rows& x) {
  static_assert(kTileTokens == 8);
  pack_words(x.q, K / 4, t, count, x.tiles);
  pack_words(x.scales, K / elems_of(x.run), t, count, x.tile_scales);
  pack_words(x.sums, K / 32, t, count, x.tile_sums);
  derive_from_sums(K, t, x);
  if (x.run == Int8Run::of32) return pack_words(x.scaled_sums, K / 32, t, count, x.tile_scaled_sums);
  for (int64_t b = 0; b < K / 256; ++b) {
    int of16 = 0, of32 = 0;
    for (int64_t u = t; u < t + count; ++u)
      reach_of(x.q + u * K + 256 * b, x.sums + u * (K / 32) + 8 * b, of16, of32);
    x.tile_reach[t / kTileTokens * (K / 256) + b] = of16 | of32 << 16;
  }
}

#undef LLAMITA_INLINE

}  // namespace llamita::int8
