// safetensors files are read as the reference reader reads them, and refused where it refuses them.
#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/cat.h"
#include "support/expect_error.h"
#include "support/golden.h"
#include "support/temp_dir.h"

namespace llamita::safetensors {
namespace {

using Shape = std::vector<int64_t>;

std::string with_length(uint64_t length, std::string_view rest) {
  std::string out(reinterpret_cast<const char*>(&length), 8);
  return out.append(rest);
}

std::string build(std::string_view header, std::string_view data) {
  return with_length(header.size(), cat(header, data));
}

std::vector<TensorInfo> parse_text(std::string_view text) {
  static std::vector<char> exact;  // outlives the result; no spare byte, so that sanitizers see one too many
  exact = std::vector<char>(text.begin(), text.end());
  return parse(std::as_bytes(std::span(exact)), "memory");
}

bool is_refused(std::string_view text) {
  try {
    size_t sum = 0;
    for (const TensorInfo& tensor : parse_text(text)) sum += tensor.data.size();
    EXPECT_LE(sum, text.size());
    return false;
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("memory", 0), 0u) << "no place named: " << error.what();
    return true;
  }
}

template <class T>
std::vector<T> elements(const TensorInfo& tensor) {
  std::vector<T> out(tensor.data.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, uint64_t begin,
                  uint64_t end) {
  return cat("\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":", shape, ",\"data_offsets\":[", begin, ",",
             end, "]}");
}

TEST(Safetensors, TensorsComeInTheOrderOfTheirData) {
  const auto tensors = parse_text(
      build(cat("{\"__metadata__\":{\"format\":\"pt\"},", entry("b", "U8", "[2]", 2, 4), ",",
                entry("a", "I8", "[1,2]", 0, 2), ",", entry("s", "U8", "[]", 4, 5), ",",
                entry("none", "F64", "[3,0]", 5, 5), ",", entry("last", "BF16", "[1]", 5, 7), "}   "),
            "abcdsxy"));
  ASSERT_EQ(tensors.size(), 5u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].shape, (Shape{1, 2}));
  EXPECT_EQ(tensors[0].dtype, DType::i8);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(elements<char>(tensors[1]), (std::vector<char>{'c', 'd'}));
  EXPECT_EQ(tensors[2].shape, Shape{});
  EXPECT_EQ(elements<char>(tensors[2]), std::vector<char>{'s'});
  EXPECT_TRUE(tensors[3].data.empty());
  EXPECT_EQ(elements<char>(tensors[4]), (std::vector<char>{'x', 'y'}));
}

TEST(Safetensors, AFileOfNoTensorsIsAFile) {
  EXPECT_TRUE(parse_text(build("{}", "")).empty());
  EXPECT_TRUE(is_refused(build("{}", "x")));
}

TEST(Safetensors, EveryDtypeHasItsSizeAndUnknownOnesAreNamed) {
  const std::pair<const char*, int> known[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                                               {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};
  for (const auto& [name, bytes] : known) {
    const std::string data(3 * bytes, 'x');
    EXPECT_EQ(parse_text(build(cat("{", entry("t", name, "[3]", 0, 3 * bytes), "}"), data)).size(), 1u)
        << name;
    EXPECT_TRUE(is_refused(build(cat("{", entry("t", name, "[3]", 0, 3 * bytes + 1), "}"), data + "x")))
        << name;
  }
  for (const char* name :
       {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "U16", "U32", "U64", "C64", "f32", "Q4_0", ""}) {
    EXPECT_ERROR(parse_text(build(cat("{", entry("t", name, "[0]", 0, 0), "}"), "")),
                 cat("tensor 't' has dtype '", name, "', which is not read here"));
  }
}

TEST(Safetensors, MalformedHeadersAreRefused) {
  const std::string data(8, 'x');
  for (
      const char* header :
      {"",
       "[]",
       " {}",
       "{",
       "{}x",
       "null",
       R"({"t":1})",
       R"({"t":{}})",
       R"({"t":{"dtype":"U8","shape":[8]}})",
       R"({"t":{"dtype":"U8","data_offsets":[0,8]}})",
       R"({"t":{"shape":[8],"data_offsets":[0,8]}})",
       R"({"t":{"dtype":7,"shape":[8],"data_offsets":[0,8]}})",
       R"({"t":{"dtype":"U8","shape":8,"data_offsets":[0,8]}})",
       R"({"t":{"dtype":"U8","shape":["8"],"data_offsets":[0,8]}})",
       R"({"t":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}})",
       R"({"t":{"dtype":"U8","shape":[-8],"data_offsets":[0,8]}})",
       R"({"t":{"dtype":"U8","shape":[-2,-4],"data_offsets":[0,8]}})",
       R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0]}})",
       R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8,8]}})",
       R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}})",
       R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[-8,0]}})",
       R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
       R"({"__metadata__":1,"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
       R"({"__metadata__":{"a":1},"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})"}) {
    EXPECT_TRUE(is_refused(build(header, data))) << header;
  }
  EXPECT_FALSE(is_refused(build(R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", data)));
}

TEST(Safetensors, ExtentsTileTheData) {
  const auto two = [](uint64_t begin, uint64_t end, const char* shape, std::string_view data) {
    return build(cat("{", entry("a", "U8", "[4]", 0, 4), ",", entry("b", "U8", shape, begin, end), "}"),
                 data);
  };
  EXPECT_FALSE(is_refused(two(4, 8, "[4]", "aaaabbbb")));
  EXPECT_ERROR(parse_text(two(5, 9, "[4]", "aaaa.bbbb")), "'b' begins at 5 of the data; 4 was expected");
  EXPECT_ERROR(parse_text(two(3, 7, "[4]", "aaabbbb")), "'b' begins at 3 of the data; 4 was expected");
  EXPECT_ERROR(parse_text(two(0, 4, "[4]", "aaaa")), "begins at 0 of the data; 4 was expected");
  EXPECT_ERROR(parse_text(two(4, 8, "[4]", "aaaabbb")), "ends at 8 of the data, which has only 7 bytes");
  EXPECT_ERROR(parse_text(two(4, 8, "[4]", "aaaabbbb.")), "end at 8 of the data, which has 9 bytes");
  EXPECT_ERROR(parse_text(two(4, 8, "[3]", "aaaabbbb")), "dtype and shape take 3 bytes");
  EXPECT_ERROR(parse_text(two(4, 4, "[4294967296,4294967296]", "aaaa")), "overflows");
  EXPECT_ERROR(parse_text(two(4, 4, "[9223372036854775807,2,0]", "aaaa")), "overflows");
  EXPECT_ERROR(parse_text(two(4, 4, "[0,9223372036854775807,2]", "aaaa")), "overflows");
  EXPECT_ERROR(parse_text(two(4, 4, "[9223372036854775808]", "aaaa")), "should be an integer");
}

TEST(Safetensors, TheHeaderLengthIsCheckedFirst) {
  const std::string header = cat("{", entry("t", "U8", "[1]", 0, 1), "}");
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{header.size()} + 2, kMaxHeaderBytes,
                                uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_TRUE(is_refused(with_length(length, header + "x"))) << length;
  }
  EXPECT_ERROR(parse_text(with_length(kMaxHeaderBytes, header)), "header needs 100000000 bytes");
  EXPECT_ERROR(parse_text(with_length(kMaxHeaderBytes + 1, header)), "the limit is 100000000");
}

TEST(Safetensors, CutAnywhereItIsRefusedAndAnyBitMayFlip) {
  const std::string whole =
      build(cat("{", entry("a", "F32", "[2,2]", 0, 16), ",", entry("b", "U8", "[3]", 16, 19), "}"),
            std::string(19, 'x'));
  ASSERT_FALSE(is_refused(whole));
  for (size_t length = 0; length < whole.size(); ++length) {
    ASSERT_TRUE(is_refused(std::string_view(whole).substr(0, length))) << length;
  }
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string changed = whole;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    is_refused(changed);
  }
}

std::string one_tensor(std::string_view name, char value) {
  return build(cat("{", entry(name, "U8", "[1]", 0, 1), "}"), std::string(1, value));
}

TEST(SafetensorsFolder, OneFileOrShardsThroughTheIndex) {
  const test::TempDir dir;
  EXPECT_ERROR(open_folder(dir.path().string()), "holds neither model.safetensors nor");
  dir.write("s1.safetensors", one_tensor("b", '1'));
  dir.write("s2.safetensors", one_tensor("a", '2'));
  dir.write("model.safetensors.index.json",
            R"({"metadata":{},"weight_map":{"a":"s2.safetensors","b":"s1.safetensors"}})");
  const auto sharded = open_folder(dir.path().string());
  ASSERT_EQ(sharded.size(), 2u);
  EXPECT_EQ(sharded[0].name, "b");
  EXPECT_EQ(elements<char>(sharded[1]), std::vector<char>{'2'});
  EXPECT_NE(sharded[1].file, nullptr);
  dir.write("model.safetensors", one_tensor("whole", '3'));
  EXPECT_EQ(open_folder(dir.path().string())[0].name, "whole");
}

TEST(SafetensorsFolder, AnIndexThatDoesNotFitItsShardsIsRefused) {
  const test::TempDir dir;
  const auto open_with = [&](std::string_view weight_map) {
    dir.write("model.safetensors.index.json", cat("{\"weight_map\":", weight_map, "}"));
    open_folder(dir.path().string());
  };
  dir.write("s1.safetensors", one_tensor("a", '1'));
  dir.write("s2.safetensors", one_tensor("a", '2'));
  EXPECT_NO_THROW(open_with(R"({"a":"s1.safetensors"})"));
  EXPECT_ERROR(open_with(R"({"a":"s1.safetensors","b":"s1.safetensors"})"),
               "s1.safetensors lacks the tensor 'b'");
  EXPECT_ERROR(open_with(R"({"a":"s1.safetensors","b":"s2.safetensors"})"), "'a' is in another shard too");
  EXPECT_ERROR(open_with(R"({"a":"s3.safetensors"})"), "s3.safetensors: No such file");
  EXPECT_ERROR(open_with(R"({"a":7})"), "should be a string");
  EXPECT_ERROR(open_with("[]"), "weight_map should be an object");
  for (const char* name :
       {"", "/etc/passwd", "../s1.safetensors", "..", "a/b", "a\\\\b", "s1.safetensors\\u0000"}) {
    EXPECT_ERROR(open_with(cat("{\"a\":\"", name, "\"}")), "is no plain file name");
  }
  dir.write("model.safetensors.index.json", "{}");
  EXPECT_ERROR(open_folder(dir.path().string()), "has no weight_map");
}

TEST(SafetensorsOfThePythonPackage, ReadBack) {
  const auto tensors = open_file(test::golden_path("formats/package.safetensors"));
  ASSERT_EQ(tensors.size(), 6u);
  int seen = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.name == "matrix") {
      EXPECT_EQ(tensor.shape, (Shape{3, 5}));
      const auto values = elements<float>(tensor);
      for (int i = 0; i < 15; ++i) EXPECT_EQ(values.at(i), static_cast<float>(i) / 4 - 3);
      ++seen;
    } else if (tensor.name == "half") {
      EXPECT_EQ(tensor.dtype, DType::f16);
      EXPECT_EQ(elements<uint16_t>(tensor)[0], 0xc200);  // -3
      ++seen;
    } else if (tensor.name == "ids") {
      EXPECT_EQ(elements<int64_t>(tensor), (std::vector<int64_t>{0, 1, 2}));
      ++seen;
    } else if (tensor.name == "flags") {
      EXPECT_EQ(elements<uint8_t>(tensor), (std::vector<uint8_t>{1, 0}));
      ++seen;
    } else if (tensor.name == "scalar") {
      EXPECT_EQ(tensor.shape, Shape{});
      EXPECT_EQ(elements<float>(tensor), std::vector<float>{2.5f});
      ++seen;
    } else if (tensor.name == "none") {
      EXPECT_EQ(tensor.shape, (Shape{0, 4}));
      ++seen;
    }
  }
  EXPECT_EQ(seen, 6);
}

TEST(SafetensorsOfThePythonPackage, BrainFloatsReadBack) {
  const auto tensors = open_file(test::golden_path("formats/package_bf16.safetensors"));
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].dtype, DType::bf16);
  EXPECT_EQ(tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(elements<uint16_t>(tensors[0]),
            (std::vector<uint16_t>{0xc040, 0xc030, 0xc020, 0xc010, 0xc000, 0xbfe0}));
}

}  // namespace
}  // namespace llamita::safetensors
