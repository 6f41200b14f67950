// What an int8 cache keeps of a row, and where.
#include "quant/kv_side.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace llamita {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_row(int64_t D, float size) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, size);
  std::vector<float> row(static_cast<size_t>(D));
  for (float& value : row) value = normal(random);
  return row;
}

TEST(KvSide, EveryValueOfARowIsWithinHalfAStep) {
  for (const int64_t D : {1, 20, 64, 256}) {
    for (const float size : {1e-9f, 3e-5f, 0.02f, 1.0f, 400.0f, 1e6f}) {
      const std::vector<float> row = normal_row(D, size);
      std::vector<int8_t> integers(row.size() + 1, 77);
      const float scale = to_float(quantize_kv_row(row.data(), D, integers.data()));
      float largest = 0;
      for (const float value : row) largest = std::max(largest, std::abs(value));
      // fp16 counts in steps of 2^-24 below 2^-14.
      EXPECT_LE(scale, std::max(largest / 127 * (1 + 0x1p-10f), largest / 127 + 0x1p-24f)) << size;
      for (size_t d = 0; d < row.size(); ++d) {
        ASSERT_LE(std::abs(static_cast<float>(integers[d]) * scale - row[d]), 0.5001f * scale)
            << "element " << d << " of " << D << ", size " << size;
        ASSERT_GE(integers[d], -127);
      }
      EXPECT_EQ(integers.back(), 77) << "wrote past the row";
    }
  }
}

TEST(KvSide, ARowOfZerosIsZeros) {
  const std::vector<float> row(64, -0.0f);
  std::vector<int8_t> integers(64, 77);
  EXPECT_EQ(to_float(quantize_kv_row(row.data(), 64, integers.data())), 0);
  EXPECT_EQ(integers, std::vector<int8_t>(64));
}

TEST(KvSide, ARowThatCannotBeKeptReadsAsNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float value : {nan, kInfinity, -kInfinity, 1e7f}) {
    std::vector<float> row = normal_row(64, 1);
    row[17] = value;
    std::vector<int8_t> integers(64, 77);
    EXPECT_TRUE(std::isnan(to_float(quantize_kv_row(row.data(), 64, integers.data())))) << value;
    EXPECT_EQ(integers, std::vector<int8_t>(64));
  }
}

// Fills a cache row by row and scale by scale: nothing overlaps and nothing is left over.
TEST(KvSide, RowsAndScalesOfAllPagesFillTheSideExactly) {
  constexpr int64_t kPages = 3, kHeads = 2, kD = 20;
  const KvFormat format{DType::i8};
  const int64_t bytes = kv_side_bytes(kv_side(nullptr, format, kPages, kHeads, kD));
  EXPECT_EQ(bytes, kPages * kHeads * kPageTokens * format.row_bytes(kD));
  std::vector<uint8_t> memory(static_cast<size_t>(bytes));
  const Tensor side = kv_side(memory.data(), format, kPages, kHeads, kD);
  ASSERT_EQ(side.shape_text(), "I8 (3, 2, 64, 20)");
  for (int64_t page = 0; page < kPages; ++page) {
    for (int64_t row = 0; row < kHeads * kPageTokens; ++row) {
      int8_t* at = side.ptr<int8_t>() + page * side.stride(0) + row * kD;
      for (int64_t d = 0; d < kD; ++d) ++at[d];
      kv_scales(side, page)[row].bits += 0x0101;
    }
  }
  EXPECT_EQ(memory, std::vector<uint8_t>(memory.size(), 1));
}

TEST(KvSide, OtherFormatsAreDenseAndHaveNoScales) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const Tensor side = kv_side(nullptr, {dtype}, 5, 2, 64);
    EXPECT_TRUE(side.dense());
    EXPECT_EQ(kv_side_bytes(side), side.bytes());
    EXPECT_EQ(KvFormat{dtype}.row_bytes(64), row_bytes(dtype, 64));
  }
}

}  // namespace
}  // namespace llamita
