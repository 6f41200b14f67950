#include "quant/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "quant/blocks.h"
#include "tensor/float16.h"

namespace llamita::quant {

namespace {

Half half_of(float value) {
  const uint16_t bits = to_f16(value).bits;
  return {{static_cast<uint8_t>(bits & 0xff), static_cast<uint8_t>(bits >> 8)}};
}

// `value` cut to an integer in [0, most]; NaN becomes 0.
int cut(float value, int most) {
  if (!(value > 0)) return 0;
  return value < static_cast<float>(most) ? static_cast<int>(value) : most;
}

float inverse(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }

// Integers that count from the middle, 2^(bits-1): the value of largest magnitude, with its sign, lies at 0.
template <int kBits>
float quantise_centred(const float* values, int (&q)[kBlock]) {
  constexpr int kMiddle = 1 << (kBits - 1);
  float extreme = values[0];
  for (int j = 1; j < kBlock; ++j) {
    if (std::fabs(values[j]) > std::fabs(extreme)) extreme = values[j];
  }
  const float scale = extreme / static_cast<float>(-kMiddle);
  for (int j = 0; j < kBlock; ++j) {
    q[j] = cut(values[j] * inverse(scale) + (static_cast<float>(kMiddle) + 0.5f), 2 * kMiddle - 1);
  }
  return scale;
}

struct ScaleMin {
  float scale;
  float min;
};

// Integers from the least value, 0, to the greatest, 2^bits - 1.
template <int kBits>
ScaleMin quantise_from_min(const float* values, int (&q)[kBlock]) {
  constexpr int kMost = (1 << kBits) - 1;
  const auto [min, max] = std::minmax_element(values, values + kBlock);
  const float scale = (*max - *min) / static_cast<float>(kMost);
  for (int j = 0; j < kBlock; ++j) q[j] = cut((values[j] - *min) * inverse(scale) + 0.5f, kMost);
  return {scale, *min};
}

void store_nibbles(const int (&q)[kBlock], uint8_t (&nibbles)[kBlock / 2]) {
  for (int j = 0; j < kBlock / 2; ++j) {
    nibbles[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + kBlock / 2] & 15) << 4);
  }
}

void store_high_bits(const int (&q)[kBlock], uint8_t (&high_bits)[4]) {
  std::fill(std::begin(high_bits), std::end(high_bits), uint8_t{0});
  for (int j = 0; j < kBlock; ++j) high_bits[j / 8] |= static_cast<uint8_t>((q[j] >> 4 & 1) << (j % 8));
}

void pack_block(const float* values, BlockQ4_0& block) {
  int q[kBlock];
  block.d = half_of(quantise_centred<4>(values, q));
  store_nibbles(q, block.nibbles);
}

void pack_block(const float* values, BlockQ4_1& block) {
  int q[kBlock];
  const auto [scale, min] = quantise_from_min<4>(values, q);
  block.d = half_of(scale);
  block.m = half_of(min);
  store_nibbles(q, block.nibbles);
}

void pack_block(const float* values, BlockQ5_0& block) {
  int q[kBlock];
  block.d = half_of(quantise_centred<5>(values, q));
  store_nibbles(q, block.nibbles);
  store_high_bits(q, block.high_bits);
}

void pack_block(const float* values, BlockQ5_1& block) {
  int q[kBlock];
  const auto [scale, min] = quantise_from_min<5>(values, q);
  block.d = half_of(scale);
  block.m = half_of(min);
  store_nibbles(q, block.nibbles);
  store_high_bits(q, block.high_bits);
}

void pack_block(const float* values, BlockQ8_0& block) {
  float most = 0;
  for (int j = 0; j < kBlock; ++j) most = std::max(most, std::fabs(values[j]));
  const float scale = most / 127.0f;
  block.d = half_of(scale);
  for (int j = 0; j < kBlock; ++j) {  // halves round away from zero
    const float scaled = values[j] * inverse(scale);
    const int magnitude = cut(std::floor(std::fabs(scaled) + 0.5f), 127);
    block.q[j] = static_cast<int8_t>(scaled < 0 ? -magnitude : magnitude);
  }
}

template <class Block>
void pack_blocks(const float* values, void* row, int64_t elems) {
  for (int64_t b = 0; b < elems / kBlock; ++b) pack_block(values + b * kBlock, static_cast<Block*>(row)[b]);
}

template <class Element, class Convert>
void pack_elements(const float* values, void* row, int64_t elems, Convert convert) {
  for (int64_t i = 0; i < elems; ++i) {
    const Element value = convert(values[i]);
    std::memcpy(static_cast<std::byte*>(row) + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  }
}

}  // namespace

bool can_pack(DType format) {
  switch (format) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q8_0: return true;
    default: return false;
  }
}

void pack_row(DType format, const float* values, void* row, int64_t elems) {
  LLAMITA_CHECK(elems >= 0 && elems % info(format).block_elems == 0, elems, " elements are no whole ",
                name(format), " blocks");
  switch (format) {
    case DType::f32: return pack_elements<float>(values, row, elems, [](float value) { return value; });
    case DType::f16: return pack_elements<f16>(values, row, elems, to_f16);
    case DType::bf16: return pack_elements<bf16>(values, row, elems, to_bf16);
    case DType::q4_0: return pack_blocks<BlockQ4_0>(values, row, elems);
    case DType::q4_1: return pack_blocks<BlockQ4_1>(values, row, elems);
    case DType::q5_0: return pack_blocks<BlockQ5_0>(values, row, elems);
    case DType::q5_1: return pack_blocks<BlockQ5_1>(values, row, elems);
    case DType::q8_0: return pack_blocks<BlockQ8_0>(values, row, elems);
    default: LLAMITA_CHECK(false, name(format), " cannot be packed");
  }
}

}  // namespace llamita::quant
