// The block formats of GGUF as structs: what each byte of a block is. A row is consecutive blocks; a block
// has no alignment (a row may start at any byte of a file), so read blocks through memcpy or unaligned loads,
// or through a pointer to these types, whose alignment is 1. Little-endian. unpack.h gives the values.
//
// Notation: d and m are fp16 scales; q is an element's stored integer; element j of a block is meant where a
// line says "elem j".
#pragma once

#include <bit>
#include <cstdint>

#include "tensor/float16.h"

namespace llamita::quant {

static_assert(std::endian::native == std::endian::little, "block formats are read as they lie in the file");

inline constexpr int kBlock = 32;        // elements of a plain block
inline constexpr int kSuperBlock = 256;  // elements of a K-quant block

// An fp16 that may lie at an odd address. to_float(half.value()) reads it.
struct Half {
  uint8_t bytes[2];
  [[gnu::always_inline]] f16 value() const { return {static_cast<uint16_t>(bytes[0] | bytes[1] << 8)}; }
};

// 32 elements
// ------------------------------------------------------------------------------------------------ Four-bit
// values: the low nibble of nibbles[j] is elem j, the high nibble elem j + 16. Fifth bits: bit j of the
// little-endian u32 in high_bits is bit 4 of elem j.

struct BlockQ4_0 {  // d * (q - 8)
  Half d;
  uint8_t nibbles[kBlock / 2];
};

struct BlockQ4_1 {  // d * q + m
  Half d;
  Half m;
  uint8_t nibbles[kBlock / 2];
};

struct BlockQ5_0 {  // d * (q - 16)
  Half d;
  uint8_t high_bits[4];
  uint8_t nibbles[kBlock / 2];
};

struct BlockQ5_1 {  // d * q + m
  Half d;
  Half m;
  uint8_t high_bits[4];
  uint8_t nibbles[kBlock / 2];
};

struct BlockQ8_0 {  // d * q
  Half d;
  int8_t q[kBlock];
};

struct BlockIQ4_NL {  // d * kIQ4Values[q]
  Half d;
  uint8_t nibbles[kBlock / 2];
};

// The sixteen values of IQ4_NL: closer together near zero, where weights are dense.
inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

// 256 elements, with scales of sub-blocks that are quantised themselves
// -------------------------------------- Two-bit values: each half of 128 elements has 32 bytes; bit pair p
// of byte l is elem 32 p + l of the half.

struct BlockQ2_K {                   // d * scale * q - dmin * min, a scale and a min for each 16
  uint8_t scales[kSuperBlock / 16];  // low nibble the scale, high nibble the min
  uint8_t pairs[kSuperBlock / 4];
  Half d;
  Half dmin;
};

struct BlockQ3_K {                     // d * (scale - 32) * (q - 4), q in 0..7, a scale for each 16
  uint8_t high_bits[kSuperBlock / 8];  // bit g of byte l: bit 2 of elem 32 g + l
  uint8_t pairs[kSuperBlock / 4];      // bits 0 and 1
  uint8_t scales[12];                  // sixteen six-bit scales: unpack_scales_q3_k
  Half d;
};

struct BlockQ4_K {  // d * scale * q - dmin * min, a scale and a min for each 32
  Half d;
  Half dmin;
  uint8_t scales[12];  // eight six-bit scales and mins: unpack_scales_q4_k
  uint8_t
      nibbles[kSuperBlock / 2];  // each 64 elements have 32 bytes: low nibbles the first 32, high the next
};

struct BlockQ5_K {  // as Q4_K with q in 0..31
  Half d;
  Half dmin;
  uint8_t scales[12];
  uint8_t high_bits[kSuperBlock / 8];  // bit g of byte l: bit 4 of elem 32 g + l
  uint8_t nibbles[kSuperBlock / 2];
};

struct BlockQ6_K {  // d * scale * (q - 32), a scale for each 16
  // Each half of 128 elements has 64 bytes: low nibbles are its first 64 elements, high nibbles the others.
  uint8_t nibbles[kSuperBlock / 2];
  uint8_t pairs[kSuperBlock / 4];  // bits 4 and 5, laid out as the two-bit values above
  int8_t scales[kSuperBlock / 16];
  Half d;
};

// The packed scales. Always inlined: kernels compiled for one instruction set include this file.

// Scale i has its low four bits in a nibble of byte i % 8 (low for i < 8, else high) and its high two in byte
// 8 + i % 4. The stored 0..63 stands for scale - 32.
[[gnu::always_inline]] inline void unpack_scales_q3_k(const uint8_t (&packed)[12], int8_t (&scales)[16]) {
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
    scales[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

// Of Q4_K and Q5_K. Bytes 0-3 and 4-7 hold the first four scales and mins in their low six bits; the last
// four have low bits in the nibbles of bytes 8-11 and their high two on top of bytes 0-3 and 4-7.
[[gnu::always_inline]] inline void unpack_scales_q4_k(const uint8_t (&packed)[12], uint8_t (&scales)[8],
                                                      uint8_t (&mins)[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    mins[i] = packed[i + 4] & 63;
    scales[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15) | packed[i] >> 6 << 4);
    mins[i + 4] = static_cast<uint8_t>(packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4);
  }
}

// Every struct is as long as the table of dtypes says, and may start at any byte.
template <class Block>
inline constexpr bool kIsPacked = alignof(Block) == 1;
static_assert(sizeof(BlockQ4_0) == 18 && kIsPacked<BlockQ4_0>);
static_assert(sizeof(BlockQ4_1) == 20 && kIsPacked<BlockQ4_1>);
static_assert(sizeof(BlockQ5_0) == 22 && kIsPacked<BlockQ5_0>);
static_assert(sizeof(BlockQ5_1) == 24 && kIsPacked<BlockQ5_1>);
static_assert(sizeof(BlockQ8_0) == 34 && kIsPacked<BlockQ8_0>);
static_assert(sizeof(BlockIQ4_NL) == 18 && kIsPacked<BlockIQ4_NL>);
static_assert(sizeof(BlockQ2_K) == 84 && kIsPacked<BlockQ2_K>);
static_assert(sizeof(BlockQ3_K) == 110 && kIsPacked<BlockQ3_K>);
static_assert(sizeof(BlockQ4_K) == 144 && kIsPacked<BlockQ4_K>);
static_assert(sizeof(BlockQ5_K) == 176 && kIsPacked<BlockQ5_K>);
static_assert(sizeof(BlockQ6_K) == 210 && kIsPacked<BlockQ6_K>);

}  // namespace llamita::quant
