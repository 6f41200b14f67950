// Avx512: the vector operations the CPU kernels are written in, for 512-bit registers. A kernel is a template
// over this struct or Avx2 (simd_avx2.h), which have the same members, so both instruction sets share one
// source. Include it only in files that end in _avx512.cc: everything here is inlined into them.
#pragma once

// g++ 12 takes the deliberately undefined operands inside its own intrinsics for mistakes (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>

namespace llamita::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  struct F {
    __m512 v;
  };
  struct I {  // 32-bit integers
    __m512i v;
  };

#define LLAMITA_SIMD [[gnu::always_inline]] static inline
  LLAMITA_SIMD F zero() { return {_mm512_setzero_ps()}; }
  LLAMITA_SIMD F set(float value) { return {_mm512_set1_ps(value)}; }
  LLAMITA_SIMD F load(const float* from) { return {_mm512_loadu_ps(from)}; }
  LLAMITA_SIMD F keep(F value) {
    auto v = value.v;
    asm("" : "+v"(v));
    return {v};
  }
  LLAMITA_SIMD void store(float* to, F value) { _mm512_storeu_ps(to, value.v); }
  LLAMITA_SIMD F add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
  LLAMITA_SIMD F mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
  LLAMITA_SIMD F div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
  LLAMITA_SIMD F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }  // a b + c
  // A NaN in b is the result.
  LLAMITA_SIMD F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
  LLAMITA_SIMD F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
  // Value where x is not below the limit, else 0.
  LLAMITA_SIMD F zero_below(F x, F limit, F value) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), value.v)};
  }
  // The lanes in a fixed tree: halves, quarters, eighths, then neighbours.
  LLAMITA_SIMD float sum(F a) {
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  // Lane i: the lanes of v[i] by one operation, in the tree of sum(); three instructions a result.
  template <F (*operation)(F, F)>
  LLAMITA_SIMD F fold(const F (&v)[16]) {
    F eights[8], fours[4], twos[2];
    for (int i = 0; i < 8; ++i) {
      const __m512 a = v[i + i / 4 * 4].v, b = v[i + i / 4 * 4 + 4].v;
      eights[i] = operation({_mm512_shuffle_f32x4(a, b, 0x44)}, {_mm512_shuffle_f32x4(a, b, 0xee)});
    }
    for (int i = 0; i < 4; ++i) {
      const __m512 a = eights[i].v, b = eights[i + 4].v;
      fours[i] = operation({_mm512_shuffle_f32x4(a, b, 0x88)}, {_mm512_shuffle_f32x4(a, b, 0xdd)});
    }
    for (int i = 0; i < 2; ++i) {
      const __m512 a = fours[2 * i].v, b = fours[2 * i + 1].v;
      twos[i] = operation({_mm512_shuffle_ps(a, b, 0x44)}, {_mm512_shuffle_ps(a, b, 0xee)});
    }
    const __m512 a = twos[0].v, b = twos[1].v;
    return operation({_mm512_shuffle_ps(a, b, 0x88)}, {_mm512_shuffle_ps(a, b, 0xdd)});
  }
  LLAMITA_SIMD F sums(const F (&v)[16]) { return fold<add>(v); }
  LLAMITA_SIMD F largests(const F (&v)[16]) { return fold<max>(v); }
  // Lane j of v[i] and lane i of v[j] change places.
  LLAMITA_SIMD void transpose(F (&v)[16]) {
    __m512 pairs[16], fours[16];
    for (int i = 0; i < 16; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(v[i].v, v[i + 1].v);
      pairs[i + 1] = _mm512_unpackhi_ps(v[i].v, v[i + 1].v);
    }
    for (int i = 0; i < 16; i += 4) {  // fours[i + j]: lanes j, 4 + j, 8 + j and 12 + j of v[i..i+3]
      for (int j = 0; j < 2; ++j) {
        const __m512d a = _mm512_castps_pd(pairs[i + j]), b = _mm512_castps_pd(pairs[i + j + 2]);
        fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
      }
    }
    for (int j = 0; j < 4; ++j) {
      const __m512 a = fours[j], b = fours[4 + j], c = fours[8 + j], d = fours[12 + j];
      const __m512 ab0 = _mm512_shuffle_f32x4(a, b, 0x88), ab1 = _mm512_shuffle_f32x4(a, b, 0xdd);
      const __m512 cd0 = _mm512_shuffle_f32x4(c, d, 0x88), cd1 = _mm512_shuffle_f32x4(c, d, 0xdd);
      v[j].v = _mm512_shuffle_f32x4(ab0, cd0, 0x88);
      v[4 + j].v = _mm512_shuffle_f32x4(ab1, cd1, 0x88);
      v[8 + j].v = _mm512_shuffle_f32x4(ab0, cd0, 0xdd);
      v[12 + j].v = _mm512_shuffle_f32x4(ab1, cd1, 0xdd);
    }
  }
  LLAMITA_SIMD float largest(F a) {
    const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  LLAMITA_SIMD F load_f16(const void* from) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)))};
  }
  LLAMITA_SIMD F load_bf16(const void* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  LLAMITA_SIMD void store_f16(void* to, F value) {  // to nearest even
    _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtps_ph(value.v, _MM_FROUND_TO_NEAREST_INT));
  }

  // An fp16 at any address in all lanes: broadcast first, so that no conversion passes through a scalar.
  LLAMITA_SIMD F set_f16(const void* half) {
    short bits;
    __builtin_memcpy(&bits, half, sizeof bits);
    return {_mm512_cvtph_ps(_mm256_set1_epi16(bits))};
  }
  // Two neighbouring ones.
  LLAMITA_SIMD void set_f16_pair(const void* halves, F& first, F& second) {
    int bits;
    __builtin_memcpy(&bits, halves, sizeof bits);
    const __m512 both = _mm512_cvtph_ps(_mm256_set1_epi32(bits));
    first = {_mm512_moveldup_ps(both)};
    second = {_mm512_movehdup_ps(both)};
  }

  // kLanes bytes, widened.
  LLAMITA_SIMD I load_u8(const void* from) {
    return {_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)))};
  }
  LLAMITA_SIMD I load_i8(const void* from) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)))};
  }
  LLAMITA_SIMD I set_int(int value) { return {_mm512_set1_epi32(value)}; }
  LLAMITA_SIMD I lane_numbers() {
    return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  }
  LLAMITA_SIMD I add(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
  LLAMITA_SIMD I bit_and(I a, int mask) { return {_mm512_and_si512(a.v, _mm512_set1_epi32(mask))}; }
  LLAMITA_SIMD I bit_or(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
  LLAMITA_SIMD I shift_left(I a, int count) { return {_mm512_slli_epi32(a.v, static_cast<unsigned>(count))}; }
  LLAMITA_SIMD I shift_right(I a, int count) {
    return {_mm512_srli_epi32(a.v, static_cast<unsigned>(count))};
  }
  LLAMITA_SIMD I shift_right(I a, I counts) { return {_mm512_srlv_epi32(a.v, counts.v)}; }
  LLAMITA_SIMD F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
  LLAMITA_SIMD I to_int(F a) { return {_mm512_cvtps_epi32(a.v)}; }  // to nearest even
  LLAMITA_SIMD F bits_to_float(I a) { return {_mm512_castsi512_ps(a.v)}; }
  // table[index] for indices 0..15 of a table of 16 bytes with signs.
  LLAMITA_SIMD I lookup_i8(const int8_t* table, I index) {
    return {_mm512_permutexvar_epi32(index.v, load_i8(table).v)};
  }

  // Two neighbouring 16-bit integers a lane.
  struct Pairs {
    __m512i v;
  };
  LLAMITA_SIMD Pairs load_pairs(const int16_t* from) { return {_mm512_loadu_si512(from)}; }
  LLAMITA_SIMD Pairs set_pair(const int16_t* from) {
    int bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return {_mm512_set1_epi32(bits)};
  }
  LLAMITA_SIMD void transpose(Pairs (&v)[16]) {
    F lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = {_mm512_castsi512_ps(v[i].v)};
    transpose(lanes);
    for (int i = 0; i < 16; ++i) v[i] = {_mm512_castps_si512(lanes[i].v)};
  }
  LLAMITA_SIMD void store_pairs(int16_t* to, Pairs a) { _mm512_storeu_si512(to, a.v); }
  // sum + a0 b0 + a1 b1
  LLAMITA_SIMD I add_products(I sum, Pairs a, Pairs b) { return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)}; }
  // As of floats.
  LLAMITA_SIMD I sums(const I (&v)[16]) {
    __m512i eights[8], fours[4], twos[2];
    for (int i = 0; i < 8; ++i) {
      const __m512i a = v[i + i / 4 * 4].v, b = v[i + i / 4 * 4 + 4].v;
      eights[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));
    }
    for (int i = 0; i < 4; ++i) {
      const __m512i a = eights[i], b = eights[i + 4];
      fours[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
    }
    for (int i = 0; i < 2; ++i) {
      const __m512i a = fours[2 * i], b = fours[2 * i + 1];
      twos[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    const __m512 a = _mm512_castsi512_ps(twos[0]), b = _mm512_castsi512_ps(twos[1]);
    return {_mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88)),
                             _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xdd)))};
  }
  LLAMITA_SIMD void store_i16(int16_t* to, I a) {  // saturated
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(a.v));
  }
#undef LLAMITA_SIMD
};

}  // namespace llamita::cpu
