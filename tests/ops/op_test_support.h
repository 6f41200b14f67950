// What the tests of all ops share: random tensors and weights in NaN-poisoned memory, contexts for every
// thread count and instruction set, and the comparison with a double reference.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "hw/cpu/isa.h"
#include "ops/activation/activation.h"
#include "ops/op.h"
#include "quant/weight.h"

namespace llamita::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A matrix of floats whose rows are `gap` elements longer than what is used and start at an odd float of the
// allocation; what no row uses is NaN.
struct Matrix {
  Matrix(int64_t rows, int64_t cols, int64_t gap = 0)
      : rows(rows),
        cols(cols),
        stride(cols + gap),
        data(static_cast<size_t>(rows * stride + 2 + gap), kNan) {}

  float* row(int64_t r) { return data.data() + 1 + r * stride; }
  const float* row(int64_t r) const { return data.data() + 1 + r * stride; }
  // (rows, cols), strided when there is a gap.
  Tensor tensor() {
    return rows == 0 ? Tensor(row(0), DType::f32, {0, cols})
                     : Tensor(row(0), DType::f32, {rows, stride}).columns(0, cols);
  }

  int64_t rows, cols, stride;
  std::vector<float> data;
};

inline double activation_of(Activation kind, double x) {
  switch (kind) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case Activation::quick_gelu: return x / (1 + std::exp(-1.702 * x));
    case Activation::relu: return std::max(x, 0.0);
  }
  return 0;
}

inline void fill_normal(Matrix& m, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) m.row(r)[c] = normal(random);
  }
}

// The fp16 scales of a block format, as byte offsets in a block; the rest of a block may be any bits.
inline std::vector<size_t> scale_offsets(DType format) {
  switch (format) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k: return {0, 2};
    case DType::q2_k: return {80, 82};
    case DType::q3_k: return {108};
    case DType::q6_k: return {208};
    default: return {0};
  }
}

// A part of random weights of about unit size in any format. The storage holds exactly the rows, so that a
// sanitizer sees a read past them.
inline quant::Part random_part(DType format, int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint8_t> bytes(static_cast<size_t>(rows * row_bytes(format, cols)));
  const auto put = [&](size_t at, auto value) { std::memcpy(bytes.data() + at, &value, sizeof value); };
  if (is_block(format)) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const auto block_bytes = static_cast<size_t>(info(format).block_bytes);
    for (size_t block = 0; block < bytes.size(); block += block_bytes) {
      for (const size_t offset : scale_offsets(format)) put(block + offset, to_f16(0.02f * normal(random)));
    }
  } else {
    const auto size = static_cast<size_t>(info(format).block_bytes);
    for (size_t at = 0; at < bytes.size(); at += size) {
      if (format == DType::f32) put(at, normal(random));
      if (format == DType::f16) put(at, to_f16(normal(random)));
      if (format == DType::bf16) put(at, to_bf16(normal(random)));
    }
  }
  auto owner = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  const void* data = owner->data();
  const size_t size = owner->size();
  return {std::string(name(format)), format, rows, Storage::borrow(data, size, std::move(owner))};
}

inline quant::Weight random_weight(DType format, int64_t rows, int64_t cols, uint32_t seed) {
  quant::Weight weight;
  weight.cols = cols;
  weight.parts.push_back(random_part(format, rows, cols, seed));
  return weight;
}

// A context over `threads` threads and an arena of `arena_bytes`, full of NaN.
class Machine {
 public:
  Machine(int threads, cpu::Isa isa, size_t arena_bytes = size_t{1} << 22)
      : pool_(threads), arena_(arena_bytes), context_(pool_, arena_, caps_of(pool_.threads(), isa)) {
    const Arena::Scope scope(arena_);
    const auto whole = static_cast<int64_t>(arena_bytes / 64 * 64);
    std::memset(arena_.take(DType::u8, {whole}).data(), 0xff, static_cast<size_t>(whole));
  }
  Context& context() { return context_; }
  static Caps caps_of(int threads, cpu::Isa isa) { return {DeviceKind::cpu, isa, threads}; }

 private:
  ThreadPool pool_;
  Arena arena_;
  Context context_;
};

// Instruction sets that this machine runs; says which it lacks.
inline std::vector<cpu::Isa> runnable_isas() {
  std::vector<cpu::Isa> isas;
  for (const cpu::Isa isa : {cpu::Isa::generic, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (isa <= cpu::best_isa()) isas.push_back(isa);
  }
  return isas;
}

// Sum of squared errors over the sum of squares, and where the worst error stands.
struct Errors {
  double squares = 0, reference_squares = 0, worst = -1;
  int64_t worst_index = -1;
  float got = 0;
  double expected = 0;

  void add(int64_t index, float value, double reference) {
    const double error = std::abs(static_cast<double>(value) - reference);
    squares += error * error;
    reference_squares += reference * reference;
    if (error > worst || !(error == error)) {
      worst = error == error ? error : std::numeric_limits<double>::infinity();
      worst_index = index;
      got = value;
      expected = reference;
    }
  }
  double nmse() const { return reference_squares > 0 ? squares / reference_squares : squares; }
};

inline void expect_nmse(const Errors& errors, double bound, const std::string& what) {
  EXPECT_TRUE(errors.nmse() <= bound)
      << what << ": NMSE " << errors.nmse() << " above " << bound << ", worst at index " << errors.worst_index
      << ": " << errors.got << " for " << errors.expected;
}

}  // namespace llamita::test
