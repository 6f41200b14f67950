// Block formats to integers, for the per-ISA kernels; the integer twin of decode.h. A format gives
//   group(row, g)   the 32 stored integers of elements 32 g to 32 g + 31 as bytes
// and says kMax, the largest of them, or that they have signs; kOffset, which their values are less by; and
// whether there are mins. A K-quant also gives the sixteen sub-block scales and mins of super-block b as
// int16. 256-bit instructions do for both instruction sets: decoding happens once for all tokens.
#pragma once

#include <immintrin.h>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace llamita::int8 {

using namespace quant;  // the structs of the blocks

#define LLAMITA_INLINE [[gnu::always_inline]] static inline

LLAMITA_INLINE __m256i masked(__m256i v, int mask) {
  return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
}
LLAMITA_INLINE __m256i load32(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

// Elements 0 to 15 are low nibbles, 16 to 31 high ones.
LLAMITA_INLINE __m256i nibbles32(const uint8_t* bytes) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  return masked(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), 15);
}

// 16 in byte j where bit j of the four bytes is set.
LLAMITA_INLINE __m256i fifth_bits32(const uint8_t* bits) {
  int word;
  __builtin_memcpy(&word, bits, sizeof word);
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2,
                                          2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i which = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i found = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), spread), which);
  return masked(_mm256_cmpeq_epi8(found, which), 16);
}

// Bits `shift` and up of each byte, cut by the mask.
LLAMITA_INLINE __m256i bits_from(const uint8_t* bytes, int shift, int mask) {
  return masked(_mm256_srl_epi16(load32(bytes), _mm_cvtsi32_si128(shift)), mask);
}

struct Plain32 {
  static constexpr bool kSuper = false, kSigned = false, kMins = false;
};

struct Q4_0 : Plain32 {
  using Block = BlockQ4_0;
  static constexpr int kMax = 15, kOffset = 8;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    return nibbles32(reinterpret_cast<const Block*>(row)[g].nibbles);
  }
};

struct Q4_1 : Plain32 {
  using Block = BlockQ4_1;
  static constexpr int kMax = 15, kOffset = 0;
  static constexpr bool kMins = true;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    return nibbles32(reinterpret_cast<const Block*>(row)[g].nibbles);
  }
};

template <class B>
LLAMITA_INLINE __m256i five_bits32(const B& block) {
  return _mm256_or_si256(nibbles32(block.nibbles), fifth_bits32(block.high_bits));
}

struct Q5_0 : Plain32 {
  using Block = BlockQ5_0;
  static constexpr int kMax = 31, kOffset = 16;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    return five_bits32(reinterpret_cast<const Block*>(row)[g]);
  }
};

struct Q5_1 : Plain32 {
  using Block = BlockQ5_1;
  static constexpr int kMax = 31, kOffset = 0;
  static constexpr bool kMins = true;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    return five_bits32(reinterpret_cast<const Block*>(row)[g]);
  }
};

struct Q8_0 : Plain32 {
  using Block = BlockQ8_0;
  static constexpr int kMax = 128, kOffset = 0;
  static constexpr bool kSigned = true;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    return load32(reinterpret_cast<const Block*>(row)[g].q);
  }
};

struct IQ4_NL : Plain32 {
  using Block = BlockIQ4_NL;
  static constexpr int kMax = 127, kOffset = 0;
  static constexpr bool kSigned = true;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIQ4Values)));
    return _mm256_shuffle_epi8(values, nibbles32(reinterpret_cast<const Block*>(row)[g].nibbles));
  }
};

// Of the super-blocks, group g is the 32 elements g % 8 of block g / 8.
struct Super {
  static constexpr bool kSuper = true, kSigned = false;
};

struct Q2_K : Super {
  using Block = BlockQ2_K;
  static constexpr int kMax = 3, kOffset = 0;
  static constexpr bool kMins = true;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    const auto& block = reinterpret_cast<const Block*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    return bits_from(block.pairs + sub / 4 * 32, 2 * (sub % 4), 3);
  }
  LLAMITA_INLINE __m256i packed(const Block& block, int shift) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.scales));
    return _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, shift), _mm_set1_epi8(15)));
  }
  LLAMITA_INLINE __m256i scales(const Block& block) { return packed(block, 0); }
  LLAMITA_INLINE __m256i mins(const Block& block) { return packed(block, 4); }
};

struct Q3_K : Super {
  using Block = BlockQ3_K;
  static constexpr int kMax = 7, kOffset = 4;
  static constexpr bool kMins = false;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    const auto& block = reinterpret_cast<const Block*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    const __m256i bit = bits_from(block.high_bits, sub, 1);
    return _mm256_or_si256(bits_from(block.pairs + sub / 4 * 32, 2 * (sub % 4), 3),
                           _mm256_slli_epi16(bit, 2));
  }
  // blocks.h: unpack_scales_q3_k, four scales at a time in the bytes of words.
  LLAMITA_INLINE __m256i scales(const Block& block) {
    uint32_t words[3];
    __builtin_memcpy(words, block.scales, sizeof words);
    const auto four = [&](uint32_t low, int quarter) {
      return static_cast<int>((low & 0x0f0f0f0fu) | (words[2] >> (2 * quarter) & 0x03030303u) << 4);
    };
    const __m128i bytes =
        _mm_setr_epi32(four(words[0], 0), four(words[1], 1), four(words[0] >> 4, 2), four(words[1] >> 4, 3));
    return _mm256_sub_epi16(_mm256_cvtepu8_epi16(bytes), _mm256_set1_epi16(32));
  }
};

// Eight bytes, each twice, as int16.
LLAMITA_INLINE __m256i twice_each(uint32_t low, uint32_t high) {
  const __m128i bytes = _mm_setr_epi32(static_cast<int>(low), static_cast<int>(high), 0, 0);
  return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(bytes, bytes));
}

// blocks.h: unpack_scales_q4_k, four at a time in the bytes of words.
template <class B>
struct SixBitScales : Super {
  using Block = B;
  static constexpr int kOffset = 0;
  static constexpr bool kMins = true;
  LLAMITA_INLINE __m256i scales(const Block& block) {
    uint32_t words[3];
    __builtin_memcpy(words, block.scales, sizeof words);
    return twice_each(words[0] & 0x3f3f3f3fu, (words[2] & 0x0f0f0f0fu) | (words[0] >> 2 & 0x30303030u));
  }
  LLAMITA_INLINE __m256i mins(const Block& block) {
    uint32_t words[3];
    __builtin_memcpy(words, block.scales, sizeof words);
    return twice_each(words[1] & 0x3f3f3f3fu, (words[2] >> 4 & 0x0f0f0f0fu) | (words[1] >> 2 & 0x30303030u));
  }
};

struct Q4_K : SixBitScales<BlockQ4_K> {
  static constexpr int kMax = 15;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    const auto& block = reinterpret_cast<const Block*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    return bits_from(block.nibbles + sub / 2 * 32, 4 * (sub & 1), 15);
  }
};

struct Q5_K : SixBitScales<BlockQ5_K> {
  static constexpr int kMax = 31;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    const auto& block = reinterpret_cast<const Block*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    const __m256i bit = bits_from(block.high_bits, sub, 1);
    return _mm256_or_si256(bits_from(block.nibbles + sub / 2 * 32, 4 * (sub & 1), 15),
                           _mm256_slli_epi16(bit, 4));
  }
};

struct Q6_K : Super {
  using Block = BlockQ6_K;
  static constexpr int kMax = 63, kOffset = 32;
  static constexpr bool kMins = false;
  LLAMITA_INLINE __m256i group(const uint8_t* row, int64_t g) {
    const auto& block = reinterpret_cast<const Block*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7), half = sub / 4, quarter = sub % 4;
    const __m256i low = bits_from(block.nibbles + half * 64 + quarter % 2 * 32, quarter / 2 * 4, 15);
    return _mm256_or_si256(low, _mm256_slli_epi16(bits_from(block.pairs + half * 32, 2 * quarter, 3), 4));
  }
  LLAMITA_INLINE __m256i scales(const Block& block) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.scales)));
  }
};

// use.operator()<Format>() for a block format.
template <class Use>
LLAMITA_INLINE void with_format(DType format, Use use) {
  switch (format) {
    case DType::q4_0: return use.template operator()<Q4_0>();
    case DType::q4_1: return use.template operator()<Q4_1>();
    case DType::q5_0: return use.template operator()<Q5_0>();
    case DType::q5_1: return use.template operator()<Q5_1>();
    case DType::q8_0: return use.template operator()<Q8_0>();
    case DType::iq4_nl: return use.template operator()<IQ4_NL>();
    case DType::q2_k: return use.template operator()<Q2_K>();
    case DType::q3_k: return use.template operator()<Q3_K>();
    case DType::q4_k: return use.template operator()<Q4_K>();
    case DType::q5_k: return use.template operator()<Q5_K>();
    case DType::q6_k: return use.template operator()<Q6_K>();
    default: return;
  }
}

#undef LLAMITA_INLINE

}  // namespace llamita::int8
