// int8.h in scalar code: the specification of the integer variants, which give its bits.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/linear/int8.h"
#include "quant/blocks.h"

namespace llamita {

namespace {

using namespace quant;

int8_t to_int8(float scaled) {
  const float below = scaled < 127.0f ? scaled : 127.0f;
  return static_cast<int8_t>(std::nearbyint(below > -127.0f ? below : -127.0f));
}

void write_output(const LinearJob& job, int64_t t, int64_t n, float value) {
  if (job.bias != nullptr) value += job.bias[n];
  if (job.residual != nullptr) value += job.residual[t * job.residual_stride + n];
  job.out[t * job.out_stride + n] = value;
}

int round_run(const float* x, int64_t count, float factor, int8_t* q) {
  int sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    q[i] = to_int8(x[i] * factor);
    sum += q[i];
  }
  return sum;
}

// The first x of the largest magnitude; a NaN is larger than any.
float largest(const float* x, int64_t count) {
  const auto magnitude = [](float v) { return std::bit_cast<uint32_t>(v) & 0x7fffffffu; };
  return *std::max_element(x, x + count, [&](float a, float b) { return magnitude(a) < magnitude(b); });
}

// One scale's worth of a row, 32 or 256 elements: d * scale[s] * w - or + min * mins[s] for sub-block s
// of 16.
struct Integers {
  float d = 0, min = 0;  // min: m, or -dmin
  bool has_mins = false;
  int w[kSuperBlock] = {};  // the stored integers less their offset
  int scales[kSuperBlock / 16];
  int mins[kSuperBlock / 16] = {};
};

void set_nibbles(const uint8_t* nibbles, const uint8_t* high_bits, int offset, Integers& out) {
  for (int j = 0; j < kBlock; ++j) {
    const int low = j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4;
    const int high = high_bits == nullptr ? 0 : high_bits[j / 8] >> (j % 8) & 1;
    out.w[j] = (low | high << 4) - offset;
  }
}

void set_min(Half m, float sign, Integers& out) {
  out.min = sign * to_float(m.value());
  out.has_mins = true;
}

void read(const BlockQ4_0& b, Integers& out) { set_nibbles(b.nibbles, nullptr, 8, out); }
void read(const BlockQ4_1& b, Integers& out) {
  set_nibbles(b.nibbles, nullptr, 0, out);
  set_min(b.m, 1, out);
}
void read(const BlockQ5_0& b, Integers& out) { set_nibbles(b.nibbles, b.high_bits, 16, out); }
void read(const BlockQ5_1& b, Integers& out) {
  set_nibbles(b.nibbles, b.high_bits, 0, out);
  set_min(b.m, 1, out);
}
void read(const BlockQ8_0& b, Integers& out) { std::copy_n(b.q, kBlock, out.w); }
void read(const BlockIQ4_NL& b, Integers& out) {
  set_nibbles(b.nibbles, nullptr, 0, out);
  for (int j = 0; j < kBlock; ++j) out.w[j] = kIQ4Values[out.w[j]];
}

// Bits 0 and 1 of element i of a super-block with two-bit values.
int pair_of(const uint8_t* pairs, int i) { return pairs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3; }
int nibble_of(const uint8_t* nibbles, int i) {
  return nibbles[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
}
int bit_of(const uint8_t* bits, int i) { return bits[i % 32] >> (i / 32) & 1; }

void read(const BlockQ2_K& b, Integers& out) {
  for (int i = 0; i < kSuperBlock; ++i) out.w[i] = pair_of(b.pairs, i);
  for (int s = 0; s < 16; ++s) {
    out.scales[s] = b.scales[s] & 15;
    out.mins[s] = b.scales[s] >> 4;
  }
  set_min(b.dmin, -1, out);
}
void read(const BlockQ3_K& b, Integers& out) {
  for (int i = 0; i < kSuperBlock; ++i) out.w[i] = pair_of(b.pairs, i) + 4 * bit_of(b.high_bits, i) - 4;
  int8_t scales[16];
  unpack_scales_q3_k(b.scales, scales);
  std::copy_n(scales, 16, out.scales);
}
template <class Block>
void read_six_bit_scales(const Block& b, Integers& out) {
  uint8_t scales[8], mins[8];
  unpack_scales_q4_k(b.scales, scales, mins);
  for (int s = 0; s < 16; ++s) {
    out.scales[s] = scales[s / 2];
    out.mins[s] = mins[s / 2];
  }
  set_min(b.dmin, -1, out);
}
void read(const BlockQ4_K& b, Integers& out) {
  for (int i = 0; i < kSuperBlock; ++i) out.w[i] = nibble_of(b.nibbles, i);
  read_six_bit_scales(b, out);
}
void read(const BlockQ5_K& b, Integers& out) {
  for (int i = 0; i < kSuperBlock; ++i) out.w[i] = nibble_of(b.nibbles, i) + 16 * bit_of(b.high_bits, i);
  read_six_bit_scales(b, out);
}
void read(const BlockQ6_K& b, Integers& out) {
  for (int i = 0; i < kSuperBlock; ++i) {
    const int low = b.nibbles[i / 128 * 64 + i % 64] >> (4 * (i / 64 % 2)) & 15;
    out.w[i] = (low | pair_of(b.pairs, i) << 4) - 32;
  }
  std::copy_n(b.scales, 16, out.scales);
}

template <class Block>
Integers integers(const uint8_t* row, int64_t b) {
  Integers out;
  std::fill_n(out.scales, 16, 1);
  const Block& block = reinterpret_cast<const Block*>(row)[b];
  out.d = to_float(block.d.value());
  read(block, out);
  return out;
}

Integers integers_of(DType format, const uint8_t* row, int64_t b) {
  switch (format) {
    case DType::q4_0: return integers<BlockQ4_0>(row, b);
    case DType::q4_1: return integers<BlockQ4_1>(row, b);
    case DType::q5_0: return integers<BlockQ5_0>(row, b);
    case DType::q5_1: return integers<BlockQ5_1>(row, b);
    case DType::q8_0: return integers<BlockQ8_0>(row, b);
    case DType::iq4_nl: return integers<BlockIQ4_NL>(row, b);
    case DType::q2_k: return integers<BlockQ2_K>(row, b);
    case DType::q3_k: return integers<BlockQ3_K>(row, b);
    case DType::q4_k: return integers<BlockQ4_K>(row, b);
    case DType::q5_k: return integers<BlockQ5_K>(row, b);
    default: return integers<BlockQ6_K>(row, b);
  }
}

// acc with block b of the row and of token t added.
float add_block(const Integers& w, const Int8Rows& x, int64_t K, int64_t t, int64_t b, float acc) {
  const int64_t run = elems_of(x.run);
  const int8_t* q = x.q + t * K + b * run;
  int sum = 0, min_sum = 0;
  for (int64_t s = 0; s < run / 16; ++s) {
    int products = 0, q_sum = 0;
    for (int64_t i = 16 * s; i < 16 * s + 16; ++i) {
      products += w.w[i] * q[i];
      q_sum += q[i];
    }
    sum += w.scales[s] * products;
    min_sum += w.mins[s] * q_sum;
  }
  const float d = x.scales[t * (K / run) + b];
  acc = std::fma(w.d * d, static_cast<float>(sum), acc);
  if (!w.has_mins) return acc;
  if (x.run == Int8Run::of32) return std::fma(w.min, x.scaled_sums[t * (K / 32) + b], acc);
  return std::fma(w.min * d, static_cast<float>(min_sum), acc);
}

}  // namespace

void int8_round_row_scalar(const float* x, int64_t K, int64_t t, const Int8Rows& to) {
  int8_t* q = to.q + t * K;
  if (to.run == Int8Run::of32) {
    for (int64_t b = 0; b < K / 32; ++b) {
      const int64_t at = t * (K / 32) + b;
      const float most = std::abs(largest(x + 32 * b, 32)), d = most / 127.0f;
      to.sums[at] = round_run(x + 32 * b, 32, most != 0 ? 127.0f / most : 0.0f, q + 32 * b);
      to.scales[at] = to_float(to_f16(d));
      to.scaled_sums[at] = to_float(to_f16(d * static_cast<float>(to.sums[at])));
    }
    return;
  }
  for (int64_t b = 0; b < K / 256; ++b) {
    const float most = largest(x + 256 * b, 256), factor = most != 0 ? -127.0f / most : 0.0f;
    to.scales[t * (K / 256) + b] = most != 0 ? 1.0f / factor : 0.0f;
    for (int64_t k = 256 * b; k < 256 * (b + 1); k += 32) {
      const int first = round_run(x + k, 16, factor, q + k),
                second = round_run(x + k + 16, 16, factor, q + k + 16);
      to.sums[t * (K / 32) + k / 32] =
          (first & 0xffff) | static_cast<int>(static_cast<unsigned>(second) << 16);
    }
  }
}

void int8_multiply_scalar(const Int8Job& int8_job, int64_t begin, int64_t end) {
  constexpr int64_t kTokens = 64;  // for each unpacked row
  const LinearJob& job = int8_job.plain;
  for (int64_t first = 0; first < job.T; first += kTokens) {
    const int64_t tokens = std::min(kTokens, job.T - first);
    for (int64_t n = begin; n < end; ++n) {
      float acc[kTokens] = {};
      for (int64_t b = 0; b < job.K / elems_of(int8_job.x.run); ++b) {
        const Integers w = integers_of(job.format, job.weight + n * job.weight_stride, b);
        for (int64_t t = 0; t < tokens; ++t) acc[t] = add_block(w, int8_job.x, job.K, first + t, b, acc[t]);
      }
      for (int64_t t = 0; t < tokens; ++t) write_output(job, first + t, n, acc[t]);
    }
  }
}

void plain_multiply_scalar(const LinearJob& job, int64_t begin, int64_t end) {
  const auto value = [&](int64_t n, int64_t k) {
    const uint8_t* at = job.weight + n * job.weight_stride + k * info(job.format).block_bytes;
    if (job.format == DType::f32) {
      float v;
      std::memcpy(&v, at, sizeof v);
      return v;
    }
    uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return job.format == DType::f16 ? to_float(f16{bits}) : to_float(bf16{bits});
  };
  for (int64_t n = begin; n < end; ++n) {
    for (int64_t t = 0; t < job.T; ++t) {
      double sum = 0;
      for (int64_t k = 0; k < job.K; ++k)
        sum += static_cast<double>(job.x[t * job.x_stride + k]) * value(n, k);
      write_output(job, t, n, static_cast<float>(sum));
    }
  }
}

}  // namespace llamita
