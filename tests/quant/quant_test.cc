// Stored weights mean exactly what the Python package gguf says they mean, bit for bit.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "quant/interleave.h"
#include "quant/pack.h"
#include "quant/unpack.h"
#include "quant/weight.h"
#include "support/golden.h"

namespace llamita::quant {
namespace {

constexpr DType kBlockFormats[] = {DType::q4_0, DType::q4_1, DType::q5_0,  DType::q5_1,
                                   DType::q8_0, DType::q2_k, DType::q3_k,  DType::q4_k,
                                   DType::q5_k, DType::q6_k, DType::iq4_nl};
constexpr DType kPackedFormats[] = {DType::f16,  DType::bf16, DType::q4_0, DType::q4_1,
                                    DType::q5_0, DType::q5_1, DType::q8_0};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

struct Golden {
  int64_t elems;
  std::string packed;
  std::vector<float> floats;
};

Golden read_golden(DType format, bool pack) {
  const std::string file = test::golden("quant/" + lower(name(format)) + (pack ? "_pack.bin" : ".bin"));
  uint32_t elems = 0;
  std::memcpy(&elems, file.data(), 4);
  const auto bytes = static_cast<size_t>(row_bytes(format, elems));
  EXPECT_EQ(file.size(), 4 + bytes + 4 * size_t{elems});
  Golden golden{elems, file.substr(pack ? 4 + 4 * size_t{elems} : 4, bytes), std::vector<float>(elems)};
  std::memcpy(golden.floats.data(), file.data() + (pack ? 4 : 4 + bytes), 4 * size_t{elems});
  return golden;
}

class BlockFormat : public testing::TestWithParam<DType> {};
class PackedFormat : public testing::TestWithParam<DType> {};
const auto kName = [](const auto& param) { return std::string(name(param.param)); };
INSTANTIATE_TEST_SUITE_P(Quant, BlockFormat, testing::ValuesIn(kBlockFormats), kName);
INSTANTIATE_TEST_SUITE_P(Quant, PackedFormat, testing::ValuesIn(kPackedFormats), kName);

TEST_P(BlockFormat, UnpacksToTheSameBitsAsTheReference) {
  const Golden golden = read_golden(GetParam(), false);
  std::vector<float> out(golden.elems + 1, -77.0f);
  // One byte further, for rows begin at any address.
  const std::string shifted = "x" + golden.packed;
  unpack_row(GetParam(), shifted.data() + 1, out.data(), golden.elems);
  for (int64_t i = 0; i < golden.elems; ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(golden.floats[i]))
        << "element " << i << ": " << out[i] << " for " << golden.floats[i];
  }
  EXPECT_EQ(out.back(), -77.0f);
}

TEST_P(BlockFormat, ARowOfNoElementsIsNothing) {
  float untouched = -77.0f;
  unpack_row(GetParam(), nullptr, &untouched, 0);
  EXPECT_EQ(untouched, -77.0f);
}

TEST_P(PackedFormat, PacksToTheSameBytesAsTheReference) {
  const Golden golden = read_golden(GetParam(), true);
  std::string out(golden.packed.size() + 2, 'x');
  pack_row(GetParam(), golden.floats.data(), out.data() + 1, golden.elems);
  const auto bytes = golden.packed.size() / (golden.elems / 32);
  for (size_t i = 0; i < golden.packed.size(); ++i) {
    ASSERT_EQ(static_cast<int>(out[i + 1]), static_cast<int>(golden.packed[i]))
        << "byte " << i % bytes << " of block " << i / bytes;
  }
  EXPECT_EQ(out.front(), 'x');
  EXPECT_EQ(out.back(), 'x');
}

TEST_P(PackedFormat, ValuesComeBackWithinHalfAStep) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(320);
  for (float& value : values) value = normal(random);
  std::vector<char> row(row_bytes(GetParam(), 320));
  std::vector<float> out(320);
  pack_row(GetParam(), values.data(), row.data(), 320);
  unpack_row(GetParam(), row.data(), out.data(), 320);
  // Blocks of normal values reach about 3.5 at most; the widest step is that of Q4_0, 3.5 / 8, cut at one
  // end.
  for (int i = 0; i < 320; ++i) ASSERT_NEAR(out[i], values[i], 0.5) << i;
}

TEST_P(PackedFormat, NoInputIsUndefined) {
  std::vector<float> values(32, 0.0f);
  std::vector<char> row(row_bytes(GetParam(), 32));
  std::vector<float> out(32);
  for (const float odd : {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-45f}) {
    values[3] = odd;
    pack_row(GetParam(), values.data(), row.data(), 32);
    unpack_row(GetParam(), row.data(), out.data(), 32);  // UBSan looks on
  }
}

TEST(Unpack, PlainElementsOfEveryBitPattern) {
  std::vector<uint16_t> bits(65536);
  for (uint32_t i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> out(65536);
  unpack_row(DType::bf16, bits.data(), out.data(), 65536);
  for (uint32_t i = 0; i < 65536; ++i) ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), i << 16);
  unpack_row(DType::f16, bits.data(), out.data(), 65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    const int exponent = static_cast<int>(i >> 10 & 31);
    const auto mantissa = static_cast<float>(i & 1023);
    const float sign = (i & 0x8000) != 0 ? -1.0f : 1.0f;
    if (exponent == 31) {
      ASSERT_TRUE(mantissa == 0 ? out[i] == sign * INFINITY : std::isnan(out[i])) << i;
    } else {
      const float magnitude =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(sign * magnitude)) << i;
    }
  }
}

TEST(UnpackDeathTest, WhatIsNoWeightIsAProgrammersError) {
  float out[32];
  EXPECT_DEATH(unpack_row(DType::i32, out, out, 32), "I32 is no weight format");
  EXPECT_DEATH(unpack_row(DType::q4_0, out, out, 31), "no whole Q4_0 blocks");
  EXPECT_FALSE(is_weight_format(DType::u8));
  EXPECT_TRUE(is_weight_format(DType::bf16));
  EXPECT_TRUE(is_weight_format(DType::iq4_nl));
}

Part random_part(std::string name, DType format, int64_t experts, int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  Part part{std::move(name), format, rows, Storage::allocate(experts * rows * row_bytes(format, cols))};
  std::vector<float> values(cols);
  for (int64_t n = 0; n < experts * rows; ++n) {
    for (float& value : values) value = static_cast<float>(random() % 1000) / 500 - 1;
    pack_row(format, values.data(), static_cast<char*>(part.storage.data()) + n * row_bytes(format, cols),
             cols);
  }
  return part;
}

TEST(Weight, RowsRunThroughPartsOfDifferentFormats) {
  Weight weight;
  EXPECT_FALSE(weight.defined());
  weight.cols = 64;
  weight.experts = 2;
  weight.parts = {random_part("q", DType::q4_0, 2, 3, 64, 1), random_part("k", DType::q8_0, 2, 1, 64, 2),
                  random_part("v", DType::f16, 2, 2, 64, 3)};
  EXPECT_EQ(weight.rows(), 6);
  EXPECT_EQ(weight.bytes(), 2 * (3 * 36 + 68 + 2 * 128));
  EXPECT_EQ(weight.row(2), static_cast<char*>(weight.parts[0].storage.data()) + 2 * 36);
  EXPECT_EQ(weight.row(3, 1), static_cast<char*>(weight.parts[1].storage.data()) + 68);
  EXPECT_EQ(weight.row(5, 1), static_cast<char*>(weight.parts[2].storage.data()) + 3 * 128);
  std::vector<float> through(64);
  std::vector<float> direct(64);
  unpack_row(weight, 5, through.data(), 1);
  unpack_row(DType::f16, weight.row(5, 1), direct.data(), 64);
  EXPECT_EQ(through, direct);
  EXPECT_DEATH(weight.row(6), "row 6 of 6");
  EXPECT_DEATH(weight.row(0, 2), "expert 2 of 2");
}

TEST_P(BlockFormat, InterleavingPermutesTheBytesAndRowsComeBack) {
  const DType format = GetParam();
  const int64_t rows = 24, cols = 3 * info(format).block_elems, row = row_bytes(format, cols);
  auto bytes = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(rows * row));
  std::mt19937 random(3);
  for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(random());
  Weight weight{.cols = cols};
  weight.parts.push_back({"", format, rows, Storage::borrow(bytes->data(), bytes->size(), bytes)});
  const Weight packed = interleaved(weight);
  ASSERT_EQ(packed.bytes(), weight.bytes());
  const auto* group = static_cast<const std::byte*>(packed.parts[0].storage.data());
  std::vector<std::byte> back(static_cast<size_t>(row));
  std::vector<float> expected(static_cast<size_t>(cols)), got(static_cast<size_t>(cols));
  for (int64_t n = 0; n < rows; ++n) {
    extract_row(format, group + n / kGroupRows * kGroupRows * row, static_cast<int>(n % kGroupRows), cols,
                back.data());
    ASSERT_EQ(std::memcmp(back.data(), weight.row(n), back.size()), 0) << "row " << n;
    unpack_row(weight, n, expected.data());
    unpack_row(packed, n, got.data());
    ASSERT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << "row " << n;
  }
}

TEST(Interleave, TakesBlocksInWholeGroupsOnly) {
  EXPECT_TRUE(can_interleave(DType::q4_k, 16));
  EXPECT_FALSE(can_interleave(DType::q4_k, 12));
  EXPECT_FALSE(can_interleave(DType::q4_k, 0));
  EXPECT_FALSE(can_interleave(DType::bf16, 16));
}

TEST(Weight, IsStoredLikeAnotherOfItsShapeFormatsAndLayout) {
  const auto pair = [] {
    return Weight{.cols = 64, .parts = {{"q", DType::q8_0, 32, {}}, {"k", DType::q4_0, 8, {}}}};
  };
  const Weight weight = pair();
  EXPECT_TRUE(weight.stored_like(pair()));
  Weight other = pair();
  other.parts[1].name = "v";
  EXPECT_TRUE(weight.stored_like(other));
  const auto differs = [&](auto change) {
    Weight changed = pair();
    change(changed);
    return !weight.stored_like(changed) && !changed.stored_like(weight);
  };
  EXPECT_TRUE(differs([](Weight& w) { w.layout = Layout::interleaved; }));
  EXPECT_TRUE(differs([](Weight& w) { w.experts = 2; }));
  EXPECT_TRUE(differs([](Weight& w) { w.cols = 96; }));
  EXPECT_TRUE(differs([](Weight& w) { w.parts[1].rows = 16; }));
  EXPECT_TRUE(differs([](Weight& w) { w.parts[0].format = DType::q4_0; }));
  EXPECT_TRUE(differs([](Weight& w) { w.parts.pop_back(); }));
}

}  // namespace
}  // namespace llamita::quant
