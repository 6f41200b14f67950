// The header of packed weights: what was written is what is read, and nothing else is read.
#include "weights/packed_header.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/cat.h"
#include "support/expect_error.h"

namespace llamita {
namespace {

PackedHeader some_header() {
  PackedHeader header;
  header.layout = packed_layout(quant::Layout::interleaved);
  header.sources = {{1000, -5, 7, 8}, {2000, 6, 9, 10}};
  header.parts = {
      {{"blk.0.attn_q.weight", "q", DType::q4_0, Packing::interleaved, 64, 128, 256}, 0, 11},
      {{"blk.0.attn_k.weight", "k", DType::f16, Packing::reordered, 64, 3, 5}, 0, 12},
      {{"head", "", DType::f32, Packing::turned, 0, 1, 1}, 0, 13},
  };
  place_parts(header);
  return header;
}

PackedHeader parse(std::span<const std::byte> bytes, uint64_t file_bytes) {
  return parse_packed_header(bytes, file_bytes, "x.packed");
}

TEST(PackedHeader, WhatIsWrittenIsRead) {
  const PackedHeader header = some_header();
  const std::vector<std::byte> bytes = serialise(header);
  EXPECT_EQ(bytes.size(), header.header_bytes);
  const PackedHeader read = parse(bytes, header.file_bytes);
  EXPECT_EQ(read.layout, header.layout);
  EXPECT_EQ(read.sources, header.sources);
  ASSERT_EQ(read.parts.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read.parts[i].part, header.parts[i].part) << i;
    EXPECT_EQ(read.parts[i].offset, header.parts[i].offset) << i;
    EXPECT_EQ(read.parts[i].offset % kPackedAlignment, 0u) << i;
    EXPECT_EQ(read.parts[i].checksum, 11 + i);
  }
  EXPECT_EQ(serialise(read), bytes);
  EXPECT_EQ(read.file_bytes, header.parts[2].offset + 4);
}

TEST(PackedHeader, EveryBitThatFlipsIsNoticed) {
  const PackedHeader header = some_header();
  std::vector<std::byte> bytes = serialise(header);
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[at] ^= static_cast<std::byte>(1 << bit);
      EXPECT_ERROR(parse(bytes, header.file_bytes), "x.packed");
      bytes[at] ^= static_cast<std::byte>(1 << bit);
    }
  }
}

TEST(PackedHeader, EveryCutIsNoticed) {
  const PackedHeader header = some_header();
  const std::vector<std::byte> bytes = serialise(header);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_ERROR(parse(std::span(bytes).first(size), header.file_bytes), "x.packed");
    EXPECT_ERROR(parse(std::span(bytes).first(size), size), "x.packed");
  }
  EXPECT_ERROR(parse(bytes, header.file_bytes - 1), "parts end at offset");
  EXPECT_ERROR(parse(bytes, header.file_bytes + 1), "parts end at offset");
}

// A header with a good checksum over a number that lies. `after`: the text that stands before the part's
// numbers.
template <class Number>
void expect_refused(const std::string& after, size_t skip, Number lie, const std::string& reason) {
  const PackedHeader header = some_header();
  std::vector<std::byte> bytes = serialise(header);
  const std::string all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t at = all.find(after);
  ASSERT_NE(at, std::string::npos);
  std::memcpy(bytes.data() + at + after.size() + skip, &lie, sizeof lie);
  seal_packed_header(bytes);
  EXPECT_ERROR(parse(bytes, header.file_bytes), reason);
}

TEST(PackedHeader, NumbersThatLieAreRefused) {
  // Behind the name: label u16 and text, format i32, packing u8, head i32, rows, cols, offset, checksum.
  const std::string q = "blk.0.attn_q.weight", k = "blk.0.attn_k.weight";
  constexpr size_t kFormat = 3, kPacking = 7, kHead = 8, kRows = 12, kCols = 20, kOffset = 28;
  expect_refused(q, kFormat, int32_t{99}, "unknown format 99");
  expect_refused(q, kFormat, int32_t{-1}, "unknown format -1");
  expect_refused(q, kFormat, int32_t{1}, "cannot be interleaved");
  expect_refused(q, kPacking, uint8_t{4}, "has packing 4");
  expect_refused(q, kHead, int32_t{-1}, "is 128 rows");
  for (const int64_t rows : {int64_t{0}, int64_t{-8}, INT64_MIN})
    expect_refused(q, kRows, rows, "rows of 256");
  expect_refused(q, kRows, int64_t{127}, "cannot be interleaved");
  expect_refused(q, kRows, INT64_MAX - 7, "overflows");
  expect_refused(q, kCols, int64_t{255}, "elements in blocks of 32");
  expect_refused(q, kCols, int64_t{1} << 62, "overflows");
  expect_refused(k, kRows, INT64_MAX / 10, "");
  expect_refused(q, kRows, int64_t{256}, "at offset");  // over its neighbour
  expect_refused(q, kOffset, uint64_t{0}, "at offset 0, expected 4096");
  expect_refused(k, kOffset, UINT64_MAX - 4095, "at offset");
  expect_refused(q, 0, uint16_t{65535}, "needs 65535 bytes");
  expect_refused("blk.0.attn_", 0, 'k', "'blk.0.attn_k.weight' is there twice");
}

TEST(PackedHeader, CountsAreComparedWithTheBytesThatAreThere) {
  const PackedHeader header = some_header();
  std::vector<std::byte> bytes = serialise(header);
  const size_t sources = kPackedPrefixBytes + 2 + header.layout.size();
  const uint32_t many = UINT32_MAX;
  std::memcpy(bytes.data() + sources, &many, sizeof many);
  seal_packed_header(bytes);
  EXPECT_ERROR(parse(bytes, header.file_bytes), "source files are more than");
}

TEST(PackedHeader, ALayoutIsNamedByTheBytesItMakes) {
  EXPECT_NE(packed_layout(quant::Layout::interleaved), packed_layout(quant::Layout::rows));
  EXPECT_EQ(packed_layout(quant::Layout::interleaved), packed_layout(quant::Layout::interleaved));
}

TEST(PackedHeader, ANameThatIsTooLongIsAnErrorWhenWriting) {
  PackedHeader header = some_header();
  header.parts[0].part.name = std::string(65536, 'x');
  place_parts(header);
  EXPECT_ERROR(serialise(header), "a name's length: 65536 is out of range");
}

}  // namespace
}  // namespace llamita
