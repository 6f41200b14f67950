// The K-quants: 256 elements in sub-blocks of 16 or 32 whose own scales are small integers. The scale of a
// sub-block, d * scale, is rounded first, as everywhere these formats are read.
#include "quant/unpack.h"

namespace llamita::quant {

namespace {

// Bits 2p and 2p + 1 of element j, where each half of 128 elements has 32 bytes.
int pair(const uint8_t (&pairs)[kSuperBlock / 4], int j) {
  const int in_half = j % 128;
  return pairs[j / 128 * 32 + in_half % 32] >> (2 * (in_half / 32)) & 3;
}

// The high bit of element j: bit g of byte l for element 32 g + l.
int high_bit(const uint8_t (&bits)[kSuperBlock / 8], int j) { return bits[j % 32] >> (j / 32) & 1; }

// The nibble of element j where each `2 * span` elements have `span` bytes, low nibbles first.
int nibble(const uint8_t (&nibbles)[kSuperBlock / 2], int span, int j) {
  const int in_chunk = j % (2 * span);
  const int byte = nibbles[j / (2 * span) * span + in_chunk % span];
  return in_chunk < span ? byte & 15 : byte >> 4;
}

// The common shape of Q4_K and Q5_K: eight scales and mins, `q_of(j)` the stored integer.
template <class Block, class QOf>
void unpack_scale_min(const Block& block, QOf q_of, float* out) {
  const float d = to_float(block.d.value());
  const float dmin = to_float(block.dmin.value());
  uint8_t scales[8];
  uint8_t mins[8];
  unpack_scales_q4_k(block.scales, scales, mins);
  for (int sub = 0; sub < 8; ++sub) {
    const float scale = d * static_cast<float>(scales[sub]);
    const float min = dmin * static_cast<float>(mins[sub]);
    for (int j = 32 * sub; j < 32 * (sub + 1); ++j) out[j] = scale * static_cast<float>(q_of(j)) - min;
  }
}

}  // namespace

void unpack_block(const BlockQ2_K& block, float* out) {
  const float d = to_float(block.d.value());
  const float dmin = to_float(block.dmin.value());
  for (int j = 0; j < kSuperBlock; ++j) {
    const float scale = d * static_cast<float>(block.scales[j / 16] & 15);
    const float min = dmin * static_cast<float>(block.scales[j / 16] >> 4);
    out[j] = scale * static_cast<float>(pair(block.pairs, j)) - min;
  }
}

void unpack_block(const BlockQ3_K& block, float* out) {
  const float d = to_float(block.d.value());
  int8_t scales[16];
  unpack_scales_q3_k(block.scales, scales);
  for (int j = 0; j < kSuperBlock; ++j) {
    const int q = pair(block.pairs, j) | high_bit(block.high_bits, j) << 2;
    out[j] = d * static_cast<float>(scales[j / 16]) * static_cast<float>(q - 4);
  }
}

void unpack_block(const BlockQ4_K& block, float* out) {
  unpack_scale_min(
      block, [&](int j) { return nibble(block.nibbles, 32, j); }, out);
}

void unpack_block(const BlockQ5_K& block, float* out) {
  const auto q_of = [&](int j) { return nibble(block.nibbles, 32, j) | high_bit(block.high_bits, j) << 4; };
  unpack_scale_min(block, q_of, out);
}

void unpack_block(const BlockQ6_K& block, float* out) {
  const float d = to_float(block.d.value());
  for (int j = 0; j < kSuperBlock; ++j) {
    const int q = nibble(block.nibbles, 64, j) | pair(block.pairs, j) << 4;
    out[j] = d * static_cast<float>(block.scales[j / 16]) * static_cast<float>(q - 32);
  }
}

}  // namespace llamita::quant
