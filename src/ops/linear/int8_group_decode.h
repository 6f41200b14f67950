// The twin of int8_decode.h for interleaved weights (quant/interleave.h), where a 256-bit load brings four
// stored bytes of eight rows. `block` is a group's block: eight blocks of the format, field by field.
//   steps(block, sub, out)   out[i]: elements 4 i to 4 i + 3 of the 32 elements `sub`, as bytes, a lane a row
//   scales(block, out), mins(block, out)   the sub-block scales of a K-quant: byte j of out[i] is scale 4 i +
//   j
// Nothing is turned and no lane is crossed: a block of 8 x 32 nibbles is four loads and twelve instructions.
#pragma once

#include <cstddef>

#include "ops/linear/int8_decode.h"

namespace llamita::int8 {

#define LLAMITA_INLINE [[gnu::always_inline]] static inline

// Bytes 4 i to 4 i + 3 of what lies at `offset` in the rows' blocks.
LLAMITA_INLINE __m256i word(const uint8_t* block, size_t offset, int i) {
  return load32(block + 8 * offset + 32 * i);
}

LLAMITA_INLINE __m256i shifted(__m256i v, int bits, int mask) {
  return masked(bits == 0 ? v : _mm256_srli_epi16(v, bits), mask);
}

// The eight fp16 at `offset`.
LLAMITA_INLINE __m256 halves_at(const uint8_t* block, size_t offset) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 8 * offset)));
}

LLAMITA_INLINE void nibble_steps(const uint8_t* block, size_t offset, __m256i (&out)[8]) {
  for (int i = 0; i < 4; ++i) {
    const __m256i both = word(block, offset, i);
    out[i] = shifted(both, 0, 15);
    out[i + 4] = shifted(both, 4, 15);
  }
}

// 16 in byte k of step i where bit 4 i + k of the lane is set.
LLAMITA_INLINE void add_fifth_bits(__m256i bits, __m256i (&out)[8]) {
  const __m256i first = _mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 0, 0, 0, 0, 4, 4,
                                         4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
  for (int i = 0; i < 8; ++i) {
    const __m256i which = _mm256_set1_epi32(i % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010u));
    const __m256i spread = _mm256_shuffle_epi8(bits, _mm256_add_epi8(first, _mm256_set1_epi8(char(i / 2))));
    const __m256i found = _mm256_cmpeq_epi8(_mm256_and_si256(spread, which), which);
    out[i] = _mm256_or_si256(out[i], masked(found, 16));
  }
}

// What a K-quant's `scales` and `mins` make of packed words: int8.h's c and n, a byte each.
template <class Format>
struct Group;

struct PlainGroup {
  static constexpr int kSub = 32;
};
template <>
struct Group<Q4_0> : PlainGroup {
  LLAMITA_INLINE void steps(const uint8_t* block, int, __m256i (&out)[8]) {
    nibble_steps(block, offsetof(BlockQ4_0, nibbles), out);
  }
};
template <>
struct Group<Q4_1> : PlainGroup {
  LLAMITA_INLINE void steps(const uint8_t* block, int, __m256i (&out)[8]) {
    nibble_steps(block, offsetof(BlockQ4_1, nibbles), out);
  }
};
template <>
struct Group<Q5_0> : PlainGroup {
  LLAMITA_INLINE void steps(const uint8_t* block, int, __m256i (&out)[8]) {
    nibble_steps(block, offsetof(BlockQ5_0, nibbles), out);
    add_fifth_bits(word(block, offsetof(BlockQ5_0, high_bits), 0), out);
  }
};
template <>
struct Group<Q5_1> : PlainGroup {
  LLAMITA_INLINE void steps(const uint8_t* block, int, __m256i (&out)[8]) {
    nibble_steps(block, offsetof(BlockQ5_1, nibbles), out);
    add_fifth_bits(word(block, offsetof(BlockQ5_1, high_bits), 0), out);
  }
};
template <>
struct Group<Q8_0> : PlainGroup {
  LLAMITA_INLINE void steps(const uint8_t* block, int, __m256i (&out)[8]) {
    for (int i = 0; i < 8; ++i) out[i] = word(block, offsetof(BlockQ8_0, q), i);
  }
};
template <>
struct Group<IQ4_NL> : PlainGroup {
  LLAMITA_INLINE void steps(const uint8_t* block, int, __m256i (&out)[8]) {
    nibble_steps(block, offsetof(BlockIQ4_NL, nibbles), out);
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIQ4Values)));
    for (__m256i& step : out) step = _mm256_shuffle_epi8(values, step);
  }
};

template <>
struct Group<Q2_K> {
  static constexpr int kSub = 16;  // elements of a sub-block scale
  LLAMITA_INLINE void steps(const uint8_t* block, int sub, __m256i (&out)[8]) {
    for (int i = 0; i < 8; ++i) {
      out[i] = shifted(word(block, offsetof(BlockQ2_K, pairs), sub / 4 * 8 + i), 2 * (sub % 4), 3);
    }
  }
  LLAMITA_INLINE void scales(const uint8_t* block, __m256i (&out)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = shifted(word(block, offsetof(BlockQ2_K, scales), i), 0, 15);
  }
  LLAMITA_INLINE void mins(const uint8_t* block, __m256i (&out)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = shifted(word(block, offsetof(BlockQ2_K, scales), i), 4, 15);
  }
};
template <>
struct Group<Q3_K> {
  static constexpr int kSub = 16;
  LLAMITA_INLINE void steps(const uint8_t* block, int sub, __m256i (&out)[8]) {
    for (int i = 0; i < 8; ++i) {
      const __m256i low = shifted(word(block, offsetof(BlockQ3_K, pairs), sub / 4 * 8 + i), 2 * (sub % 4), 3);
      const __m256i bit = shifted(word(block, offsetof(BlockQ3_K, high_bits), i), sub, 1);
      out[i] = _mm256_or_si256(low, _mm256_slli_epi16(bit, 2));
    }
  }
  LLAMITA_INLINE void scales(const uint8_t* block, __m256i (&out)[4]) {
    const __m256i high = word(block, offsetof(BlockQ3_K, scales), 2);
    for (int i = 0; i < 4; ++i) {
      const __m256i low = shifted(word(block, offsetof(BlockQ3_K, scales), i % 2), i / 2 * 4, 15);
      const __m256i six = _mm256_or_si256(low, _mm256_slli_epi16(shifted(high, 2 * i, 3), 4));
      out[i] = _mm256_sub_epi8(six, _mm256_set1_epi8(32));
    }
  }
};

template <class Block>
struct SixBitGroup {
  static constexpr int kSub = 32;
  LLAMITA_INLINE __m256i four(const uint8_t* block, int low, int shift, int top) {
    const __m256i bits = shifted(word(block, offsetof(Block, scales), low), shift, 15);
    const __m256i high = masked(_mm256_srli_epi16(word(block, offsetof(Block, scales), top), 2), 0x30);
    return _mm256_or_si256(bits, high);
  }
  LLAMITA_INLINE void scales(const uint8_t* block, __m256i (&out)[4]) {
    out[0] = masked(word(block, offsetof(Block, scales), 0), 63);
    out[1] = four(block, 2, 0, 0);
  }
  LLAMITA_INLINE void mins(const uint8_t* block, __m256i (&out)[4]) {
    out[0] = masked(word(block, offsetof(Block, scales), 1), 63);
    out[1] = four(block, 2, 4, 1);
  }
};
template <>
struct Group<Q4_K> : SixBitGroup<BlockQ4_K> {
  LLAMITA_INLINE void steps(const uint8_t* block, int sub, __m256i (&out)[8]) {
    for (int i = 0; i < 8; ++i) {
      out[i] = shifted(word(block, offsetof(BlockQ4_K, nibbles), sub / 2 * 8 + i), sub % 2 * 4, 15);
    }
  }
};
template <>
struct Group<Q5_K> : SixBitGroup<BlockQ5_K> {
  LLAMITA_INLINE void steps(const uint8_t* block, int sub, __m256i (&out)[8]) {
    for (int i = 0; i < 8; ++i) {
      const __m256i bit = shifted(word(block, offsetof(BlockQ5_K, high_bits), i), sub, 1);
      out[i] = shifted(word(block, offsetof(BlockQ5_K, nibbles), sub / 2 * 8 + i), sub % 2 * 4, 15);
      out[i] = _mm256_or_si256(out[i], _mm256_slli_epi16(bit, 4));
    }
  }
};
template <>
struct Group<Q6_K> {
  static constexpr int kSub = 16;
  LLAMITA_INLINE void steps(const uint8_t* block, int sub, __m256i (&out)[8]) {
    const int half = sub / 4, quarter = sub % 4;
    for (int i = 0; i < 8; ++i) {
      const __m256i low = shifted(word(block, offsetof(BlockQ6_K, nibbles), half * 16 + quarter % 2 * 8 + i),
                                  quarter / 2 * 4, 15);
      const __m256i high = shifted(word(block, offsetof(BlockQ6_K, pairs), half * 8 + i), 2 * quarter, 3);
      out[i] = _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
    }
  }
  LLAMITA_INLINE void scales(const uint8_t* block, __m256i (&out)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = word(block, offsetof(BlockQ6_K, scales), i);
  }
};

// In each lane the int16 pair of signed bytes `first` and `second` of the four in v.
LLAMITA_INLINE __m256i pair_of_bytes(__m256i v, int first, int second) {
  const __m256i lanes =
      _mm256_setr_epi32(0, 0x04000400, 0x08000800, 0x0c000c00, 0, 0x04000400, 0x08000800, 0x0c000c00);
  const __m256i which = _mm256_set1_epi32(0x00800080 | first << 8 | second << 24);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(v, _mm256_or_si256(lanes, which)), 8);
}

// The pair of scales of elements 0 to 15 and 16 to 31 of the 32 elements `sub`.
template <class Format>
LLAMITA_INLINE __m256i pair_of_scales(const __m256i (&bytes)[4], int sub) {
  if constexpr (Group<Format>::kSub == 32) return pair_of_bytes(bytes[sub / 4], sub % 4, sub % 4);
  return pair_of_bytes(bytes[sub / 2], sub % 2 * 2, sub % 2 * 2 + 1);
}
// The scale of one half of them, twice.
template <class Format>
LLAMITA_INLINE __m256i scale_of_half(const __m256i (&bytes)[4], int sub, int half) {
  if constexpr (Group<Format>::kSub == 32) return pair_of_bytes(bytes[sub / 4], sub % 4, sub % 4);
  return pair_of_bytes(bytes[sub / 2], sub % 2 * 2 + half, sub % 2 * 2 + half);
}

#undef LLAMITA_INLINE

}  // namespace llamita::int8
