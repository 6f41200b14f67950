// Nothing that can be in a GGUF file crashes its reader or makes it look outside the file: cut anywhere, any
// number replaced, any bit flipped, the file is refused with an Error or read as what it then says.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "support/expect_error.h"
#include "support/gguf_builder.h"

namespace llamita::gguf {
namespace {

using test::GgufBuilder;

GgufBuilder small_file() {
  GgufBuilder builder;
  builder.alignment(64)
      .kv("general.architecture", "llama")
      .kv("llama.block_count", uint64_t{2})
      .kv("flag", true)
      .kv("scores", std::vector<float>{1, 2, 3})
      .kv("tokens", std::vector<std::string>{"a", "bc", ""})
      .tensor("norm", DType::f32, {8})
      .tensor("output", DType::q4_k, {2, 256})
      .tensor("cube", DType::f16, {2, 3, 4});
  return builder;
}

// Parses a copy of exactly these bytes, so that a sanitizer sees one byte too many. True when it is a file:
// then each tensor lies inside it and has the size of its shape, and together they are no larger than it.
bool reads(std::string_view text) {
  const std::vector<char> exact(text.begin(), text.end());
  const auto bytes = std::as_bytes(std::span(exact));
  try {
    const File file = File::parse(bytes, "memory");
    size_t sum = 0;
    for (const TensorInfo& tensor : file.tensors()) {
      int64_t elems = 1;
      for (const int64_t size : tensor.shape) elems *= size;
      EXPECT_EQ(row_bytes(tensor.dtype, elems), static_cast<int64_t>(tensor.data.size()));
      EXPECT_GE(tensor.data.data(), bytes.data());
      EXPECT_LE(tensor.data.data() + tensor.data.size(), bytes.data() + bytes.size());
      sum += tensor.data.size();
    }
    EXPECT_LE(sum, bytes.size());
    EXPECT_EQ(file.keys().empty(), false);
    for (const std::string& key : file.keys()) EXPECT_NE(file.find(key), nullptr);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("memory", 0), 0u) << "no place named: " << error.what();
    return false;
  }
}

void parse(const GgufBuilder& builder) {
  const std::string bytes = builder.build();
  File::parse(std::as_bytes(std::span(bytes)), "memory");
}

TEST(GgufMalformed, TheUntouchedFileIsRead) { EXPECT_TRUE(reads(small_file().build())); }

TEST(GgufMalformed, CutAnywhereItIsRefused) {
  const std::string whole = small_file().build();
  for (size_t length = 0; length < whole.size(); ++length) {
    ASSERT_FALSE(reads(std::string_view(whole).substr(0, length))) << length;
  }
}

TEST(GgufMalformed, AnyNumberMayHaveAnyValue) {
  const GgufBuilder builder = small_file();
  const std::string whole = builder.build();
  constexpr uint64_t k31 = uint64_t{1} << 31;
  constexpr uint64_t k32 = uint64_t{1} << 32;
  constexpr uint64_t k63 = uint64_t{1} << 63;
  int refused = 0;
  for (const auto& [offset, bytes] : builder.fields()) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1}, k31 - 1, k31, k31 + 1, k32 - 1, k32, k32 + 1,
                                 k63 - 1, k63, k63 + 1, std::numeric_limits<uint64_t>::max()}) {
      std::string changed = whole;
      std::memcpy(changed.data() + offset, &value, bytes);
      refused += reads(changed) ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 200);  // nearly all: lengths, counts and types leave no choice
}

TEST(GgufMalformed, AnyBitMayFlip) {
  const std::string whole = small_file().build();
  for (size_t bit = 0; bit < std::min<size_t>(whole.size(), 4096) * 8; ++bit) {
    std::string changed = whole;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    reads(changed);
  }
}

TEST(GgufMalformed, TheErrorNamesTheCause) {
  EXPECT_ERROR(File::parse({}, "memory"), "memory, offset 0: this is no GGUF file");
  EXPECT_ERROR(parse(GgufBuilder().version(1)), "version 1");
  EXPECT_ERROR(parse(GgufBuilder().version(4)), "version 4; 2 and 3 are read");
  EXPECT_ERROR(parse(GgufBuilder().version(0x03000000)), "big-endian");
  EXPECT_ERROR(parse(GgufBuilder().kv("a", 1).kv("a", 2)), "the key 'a' is there twice");
  EXPECT_ERROR(parse(GgufBuilder().kv("big", uint64_t{1} << 63)), "above 2^63-1");
  EXPECT_ERROR(parse(GgufBuilder().kv("big", std::vector<uint64_t>{uint64_t{1} << 63})), "above 2^63-1");
  EXPECT_ERROR(parse(GgufBuilder().kv_raw("b", 7, "\x02")), "'b' is a boolean of 2");
  EXPECT_ERROR(parse(GgufBuilder().kv_raw("k", 13, "xxxxxxxx")), "'k' has the unknown value type 13");
  const std::string nested("\x09\0\0\0\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0", 24);
  EXPECT_ERROR(parse(GgufBuilder().kv_raw("k", 9, nested)), "array of arrays");
  const std::string odd("\x0d\0\0\0\x01\0\0\0\0\0\0\0x", 13);
  EXPECT_ERROR(parse(GgufBuilder().kv_raw("k", 9, odd)), "array of the unknown value type 13");
  for (const uint32_t alignment : {0u, 3u, 48u, 8192u, 4294967295u}) {
    EXPECT_ERROR(parse(GgufBuilder().kv("general.alignment", alignment)), "a power of two up to 4096");
  }
  EXPECT_ERROR(parse(GgufBuilder().kv("general.alignment", "32")), "should be an integer");
}

TEST(GgufMalformed, TensorsThatCannotBeAreRefused) {
  const auto one = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    parse(GgufBuilder().tensor_raw("t\n", dims, type, offset).data_raw(std::string(64, 'x')));
  };
  EXPECT_NO_THROW(one({4}, 0, 0));
  EXPECT_ERROR(one({0}, 0, 0), "'t\\x0a' has a dimension of 0");
  EXPECT_ERROR(one({uint64_t{1} << 63}, 0, 0), "has a dimension of 9223372036854775808");
  EXPECT_ERROR(one({1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
  EXPECT_ERROR(one({33}, 2, 0), "no whole Q4_0 blocks of 32");
  EXPECT_ERROR(one({}, 12, 0), "no whole Q4_K blocks");
  EXPECT_ERROR(one({4}, 0, 16), "no multiple of the alignment 32");
  EXPECT_ERROR(one({17}, 0, 0), "has 68 bytes at 0 of the data section, which is only 64 bytes");
  EXPECT_ERROR(one({1}, 0, 64), "at 64 of the data section");
  EXPECT_ERROR(one({1}, 0, uint64_t{0} - 32), "of the data section");
  EXPECT_ERROR(one({uint64_t{1} << 62}, 0, 0), "overflows");
  EXPECT_ERROR(one({uint64_t{1} << 32, uint64_t{1} << 32}, 24, 0), "overflows");
  EXPECT_ERROR(one({4}, 4, 0), "type 4 (Q4_2, removed from GGUF)");
  EXPECT_ERROR(one({4}, 39, 0), "type 39 (MXFP4)");
  EXPECT_ERROR(one({4}, 1000, 0), "type 1000 (unknown)");
  EXPECT_ERROR(one({4}, 4294967295u, 0), "type 4294967295 (unknown)");
  EXPECT_ERROR(parse(GgufBuilder().tensor("a", DType::i8, {1}).tensor("a", DType::i8, {1})),
               "'a' is there twice");
  const auto overlapping =
      GgufBuilder().tensor_raw("a", {33}, 24, 0).tensor_raw("b", {1}, 24, 32).data_raw(std::string(64, 'x'));
  EXPECT_ERROR(parse(overlapping), "the tensors 'a' and 'b' overlap");
}

// Each limit at L - 1, L and L + 1.
TEST(GgufMalformed, LimitsHoldExactly) {
  for (const int over : {-1, 0, 1}) {
    const auto check = [&](const GgufBuilder& builder, std::string_view part) {
      if (over <= 0) {
        EXPECT_NO_THROW(parse(builder)) << part;
      } else {
        EXPECT_ERROR(parse(builder), std::string(part));
      }
    };
    check(GgufBuilder().kv(std::string(Limits::kKeyBytes + over, 'k'), 1), "the limit is 65535");
    check(GgufBuilder().kv("k", std::string(Limits::kStringBytes + over, 's')), "the limit is 1048576");
    check(GgufBuilder().kv("k", std::vector<std::string>{std::string(Limits::kStringBytes + over, 's')}),
          "the limit is 1048576");
    std::string array("\0\0\0\0", 4);
    const uint64_t count = Limits::kArrayElements + over;
    array.append(reinterpret_cast<const char*>(&count), 8);
    array.resize(array.size() + count);
    check(GgufBuilder().kv_raw("k", 9, array), "the limit is 16777216");
    GgufBuilder keys;
    for (uint64_t i = 0; i < Limits::kKeys + over; ++i) keys.kv(std::to_string(i), uint8_t{1});
    check(keys, "65537 keys; the limit is 65536");
    GgufBuilder tensors;
    for (uint64_t i = 0; i < Limits::kTensors + over; ++i)
      tensors.tensor_raw(std::to_string(i), {1}, 24, 32 * i);
    tensors.data_raw(std::string(32 * (Limits::kTensors + 1), 'x'));
    check(tensors, "65537 tensors; the limit is 65536");
  }
}

TEST(GgufMalformed, ACountThatTheFileHasNoRoomForIsRefusedBeforeAllocation) {
  for (const uint32_t type : {0u, 7u, 8u, 12u}) {
    std::string array(reinterpret_cast<const char*>(&type), 4);
    const uint64_t count = Limits::kArrayElements;
    array.append(reinterpret_cast<const char*>(&count), 8);
    EXPECT_ERROR(parse(GgufBuilder().kv_raw("k", 9, array)), "more than the file has room for");
  }
}

}  // namespace
}  // namespace llamita::gguf
