// Avx2: the vector operations the CPU kernels are written in, for 256-bit registers. A kernel is a template
// over this struct or Avx512 (simd_avx512.h), which have the same members, so both instruction sets share one
// source. Include it only in files that end in _avx2.cc: everything here is inlined into them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace llamita::cpu {

struct Avx2 {
  static constexpr int kLanes = 8;
  struct F {
    __m256 v;
  };
  struct I {  // 32-bit integers
    __m256i v;
  };

#define LLAMITA_SIMD [[gnu::always_inline]] static inline
  LLAMITA_SIMD F zero() { return {_mm256_setzero_ps()}; }
  LLAMITA_SIMD F set(float value) { return {_mm256_set1_ps(value)}; }
  LLAMITA_SIMD F load(const float* from) { return {_mm256_loadu_ps(from)}; }
  // In a register from here on: compilers that fold a load into each of its uses load again and again.
  LLAMITA_SIMD F keep(F value) {
    auto v = value.v;
    asm("" : "+x"(v));
    return {v};
  }
  LLAMITA_SIMD void store(float* to, F value) { _mm256_storeu_ps(to, value.v); }
  LLAMITA_SIMD F add(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
  LLAMITA_SIMD F mul(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
  LLAMITA_SIMD F div(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
  LLAMITA_SIMD F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }  // a b + c
  // A NaN in b is the result.
  LLAMITA_SIMD F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
  LLAMITA_SIMD F min(F a, F b) { return {_mm256_min_ps(a.v, b.v)}; }
  // Value where x is not below the limit, else 0.
  LLAMITA_SIMD F zero_below(F x, F limit, F value) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.v, limit.v, _CMP_NLT_UQ), value.v)};
  }
  // The lanes in a fixed tree: halves, then quarters, then neighbours.
  LLAMITA_SIMD float sum(F a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  // Lane i: the lanes of v[i] by one operation, in the tree of sum(); 21 instructions for eight results.
  template <F (*operation)(F, F)>
  LLAMITA_SIMD F fold(const F (&v)[8]) {
    F fours[4], twos[2];
    for (int i = 0; i < 4; ++i) {
      fours[i] = operation({_mm256_permute2f128_ps(v[i].v, v[i + 4].v, 0x20)},
                           {_mm256_permute2f128_ps(v[i].v, v[i + 4].v, 0x31)});
    }
    for (int i = 0; i < 2; ++i) {
      const __m256 a = fours[2 * i].v, b = fours[2 * i + 1].v;
      twos[i] = operation({_mm256_shuffle_ps(a, b, 0x44)}, {_mm256_shuffle_ps(a, b, 0xee)});
    }
    const __m256 a = twos[0].v, b = twos[1].v;
    return operation({_mm256_shuffle_ps(a, b, 0x88)}, {_mm256_shuffle_ps(a, b, 0xdd)});
  }
  LLAMITA_SIMD F sums(const F (&v)[8]) { return fold<add>(v); }
  LLAMITA_SIMD F largests(const F (&v)[8]) { return fold<max>(v); }
  // Lane j of v[i] and lane i of v[j] change places.
  LLAMITA_SIMD void transpose(F (&v)[8]) {
    __m256 fours[8];
    for (int i = 0; i < 8; i += 4) {  // fours[i + j]: lanes j and 4 + j of v[i..i+3]
      const __m256 a = _mm256_unpacklo_ps(v[i].v, v[i + 1].v), b = _mm256_unpackhi_ps(v[i].v, v[i + 1].v);
      const __m256 c = _mm256_unpacklo_ps(v[i + 2].v, v[i + 3].v),
                   d = _mm256_unpackhi_ps(v[i + 2].v, v[i + 3].v);
      fours[i] = _mm256_shuffle_ps(a, c, 0x44);
      fours[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
      fours[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
      fours[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int j = 0; j < 4; ++j) {
      v[j].v = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
      v[4 + j].v = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
    }
  }
  LLAMITA_SIMD float largest(F a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  LLAMITA_SIMD F load_f16(const void* from) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)))};
  }
  LLAMITA_SIMD F load_bf16(const void* from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
  }
  LLAMITA_SIMD void store_f16(void* to, F value) {  // to nearest even
    _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_cvtps_ph(value.v, _MM_FROUND_TO_NEAREST_INT));
  }

  // An fp16 at any address in all lanes: broadcast first, so that no conversion passes through a scalar.
  LLAMITA_SIMD F set_f16(const void* half) {
    short bits;
    __builtin_memcpy(&bits, half, sizeof bits);
    return {_mm256_cvtph_ps(_mm_set1_epi16(bits))};
  }
  // Two neighbouring ones.
  LLAMITA_SIMD void set_f16_pair(const void* halves, F& first, F& second) {
    int bits;
    __builtin_memcpy(&bits, halves, sizeof bits);
    const __m256 both = _mm256_cvtph_ps(_mm_set1_epi32(bits));
    first = {_mm256_moveldup_ps(both)};
    second = {_mm256_movehdup_ps(both)};
  }

  // kLanes bytes, widened.
  LLAMITA_SIMD I load_u8(const void* from) {
    return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from)))};
  }
  LLAMITA_SIMD I load_i8(const void* from) {
    return {_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from)))};
  }
  LLAMITA_SIMD I set_int(int value) { return {_mm256_set1_epi32(value)}; }
  LLAMITA_SIMD I lane_numbers() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }
  LLAMITA_SIMD I add(I a, I b) { return {_mm256_add_epi32(a.v, b.v)}; }
  LLAMITA_SIMD I bit_and(I a, int mask) { return {_mm256_and_si256(a.v, _mm256_set1_epi32(mask))}; }
  LLAMITA_SIMD I bit_or(I a, I b) { return {_mm256_or_si256(a.v, b.v)}; }
  LLAMITA_SIMD I shift_left(I a, int count) { return {_mm256_slli_epi32(a.v, count)}; }
  LLAMITA_SIMD I shift_right(I a, int count) { return {_mm256_srli_epi32(a.v, count)}; }
  LLAMITA_SIMD I shift_right(I a, I counts) { return {_mm256_srlv_epi32(a.v, counts.v)}; }
  LLAMITA_SIMD F to_float(I a) { return {_mm256_cvtepi32_ps(a.v)}; }
  LLAMITA_SIMD I to_int(F a) { return {_mm256_cvtps_epi32(a.v)}; }  // to nearest even
  LLAMITA_SIMD F bits_to_float(I a) { return {_mm256_castsi256_ps(a.v)}; }
  // table[index] for indices 0..15 of a table of 16 bytes with signs.
  LLAMITA_SIMD I lookup_i8(const int8_t* table, I index) {
    // Bytes 1 to 3 of an index are zero and would look up entry 0; the sign extension drops them.
    const __m256i bytes =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
    const __m256i found = _mm256_shuffle_epi8(bytes, index.v);
    return {_mm256_srai_epi32(_mm256_slli_epi32(found, 24), 24)};
  }

  // Two neighbouring 16-bit integers a lane.
  struct Pairs {
    __m256i v;
  };
  LLAMITA_SIMD Pairs load_pairs(const int16_t* from) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
  }
  LLAMITA_SIMD Pairs set_pair(const int16_t* from) {
    int bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return {_mm256_set1_epi32(bits)};
  }
  LLAMITA_SIMD void transpose(Pairs (&v)[8]) {
    F lanes[8];
    for (int i = 0; i < 8; ++i) lanes[i] = {_mm256_castsi256_ps(v[i].v)};
    transpose(lanes);
    for (int i = 0; i < 8; ++i) v[i] = {_mm256_castps_si256(lanes[i].v)};
  }
  LLAMITA_SIMD void store_pairs(int16_t* to, Pairs a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a.v);
  }
  // sum + a0 b0 + a1 b1
  LLAMITA_SIMD I add_products(I sum, Pairs a, Pairs b) {
    return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))};
  }
  // As of floats.
  LLAMITA_SIMD I sums(const I (&v)[8]) {
    __m256i fours[4];
    for (int i = 0; i < 4; ++i) {
      fours[i] = _mm256_add_epi32(_mm256_permute2x128_si256(v[i].v, v[i + 4].v, 0x20),
                                  _mm256_permute2x128_si256(v[i].v, v[i + 4].v, 0x31));
    }
    return {_mm256_hadd_epi32(_mm256_hadd_epi32(fours[0], fours[1]), _mm256_hadd_epi32(fours[2], fours[3]))};
  }
  LLAMITA_SIMD void store_i16(int16_t* to, I a) {  // saturated
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1)));
  }
#undef LLAMITA_SIMD
};

}  // namespace llamita::cpu
