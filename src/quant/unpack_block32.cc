// The formats with blocks of 32 elements. Integers become floats exactly; the product and the sum each round
// once.
#include "quant/unpack.h"

namespace llamita::quant {

namespace {

// The nibble of element j.
int nibble(const uint8_t (&nibbles)[kBlock / 2], int j) {
  return j < kBlock / 2 ? nibbles[j] & 15 : nibbles[j - kBlock / 2] >> 4;
}

// The nibble of element j with its fifth bit.
int five_bits(const uint8_t (&nibbles)[kBlock / 2], const uint8_t (&high_bits)[4], int j) {
  return nibble(nibbles, j) | (high_bits[j / 8] >> (j % 8) & 1) << 4;
}

}  // namespace

void unpack_block(const BlockQ4_0& block, float* out) {
  const float d = to_float(block.d.value());
  for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(nibble(block.nibbles, j) - 8);
}

void unpack_block(const BlockQ4_1& block, float* out) {
  const float d = to_float(block.d.value());
  const float m = to_float(block.m.value());
  for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(nibble(block.nibbles, j)) + m;
}

void unpack_block(const BlockQ5_0& block, float* out) {
  const float d = to_float(block.d.value());
  for (int j = 0; j < kBlock; ++j) {
    out[j] = d * static_cast<float>(five_bits(block.nibbles, block.high_bits, j) - 16);
  }
}

void unpack_block(const BlockQ5_1& block, float* out) {
  const float d = to_float(block.d.value());
  const float m = to_float(block.m.value());
  for (int j = 0; j < kBlock; ++j) {
    out[j] = d * static_cast<float>(five_bits(block.nibbles, block.high_bits, j)) + m;
  }
}

void unpack_block(const BlockQ8_0& block, float* out) {
  const float d = to_float(block.d.value());
  for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(block.q[j]);
}

void unpack_block(const BlockIQ4_NL& block, float* out) {
  const float d = to_float(block.d.value());
  for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(kIQ4Values[nibble(block.nibbles, j)]);
}

}  // namespace llamita::quant
