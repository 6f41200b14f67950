// What a GGUF file says is what gguf::File tells, whoever wrote the file.
#include "formats/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/gguf_builder.h"
#include "support/golden.h"
#include "support/temp_dir.h"

namespace llamita::gguf {
namespace {

using test::GgufBuilder;
using Shape = std::vector<int64_t>;

template <class T>
std::vector<T> elements(const TensorInfo& tensor) {
  std::vector<T> out(tensor.data.size() / sizeof(T));
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

TEST(Gguf, ReadsEveryKindOfKey) {
  const test::TempDir dir;
  const File file = File::open(dir.write("a.gguf", GgufBuilder()
                                                       .version(2)
                                                       .kv("u8", uint8_t{255})
                                                       .kv("i8", int8_t{-128})
                                                       .kv("u16", uint16_t{65535})
                                                       .kv("i16", int16_t{-32768})
                                                       .kv("u32", uint32_t{4294967295})
                                                       .kv("i32", std::numeric_limits<int32_t>::min())
                                                       .kv("u64", uint64_t{9223372036854775807})
                                                       .kv("i64", std::numeric_limits<int64_t>::min())
                                                       .kv("f32", 0.1f)
                                                       .kv("f64", 0.1)
                                                       .kv("yes", true)
                                                       .kv("no", false)
                                                       .kv("text", "läma")
                                                       .kv("texts", std::vector<std::string>{"a", "", "c d"})
                                                       .kv("ids", std::vector<int32_t>{1, -2})
                                                       .kv("large", std::vector<uint64_t>{1, 2})
                                                       .kv("scores", std::vector<float>{0.5f, -1})
                                                       .kv("flags", std::vector<bool>{true, false})
                                                       .kv("none", std::vector<int32_t>{})
                                                       .build()));
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.get_int("u8"), 255);
  EXPECT_EQ(file.get_int("i8"), -128);
  EXPECT_EQ(file.get_int("u16"), 65535);
  EXPECT_EQ(file.get_int("i16"), -32768);
  EXPECT_EQ(file.get_int("u32"), 4294967295);
  EXPECT_EQ(file.get_int("i32"), -2147483648LL);
  EXPECT_EQ(file.get_int("u64"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(file.get_int("i64"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(file.get_double("f32"), static_cast<double>(0.1f));
  EXPECT_EQ(file.get_double("f64"), 0.1);
  EXPECT_EQ(file.get_double("u8"), 255.0);
  EXPECT_EQ(file.get_bool("yes"), true);
  EXPECT_EQ(file.get_bool("no"), false);
  EXPECT_EQ(*file.get_string("text"), "läma");
  EXPECT_EQ(*file.get_strings("texts"), (std::vector<std::string>{"a", "", "c d"}));
  EXPECT_EQ(*file.get_ints("ids"), (std::vector<int64_t>{1, -2}));
  EXPECT_EQ(*file.get_ints("large"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(*file.get_doubles("scores"), (std::vector<double>{0.5, -1}));
  EXPECT_EQ(std::get<std::vector<bool>>(*file.find("flags")), (std::vector<bool>{true, false}));
  EXPECT_TRUE(file.get_ints("none")->empty());
  EXPECT_EQ(file.keys().front(), "u8");
  EXPECT_EQ(file.keys().back(), "none");
  EXPECT_TRUE(file.tensors().empty());
}

TEST(Gguf, AnAbsentKeyIsNothingAndAnotherTypeIsAnError) {
  const test::TempDir dir;
  const File file = File::open(dir.write("a.gguf", GgufBuilder().kv("n", 1).kv("x", 1.5).build()));
  EXPECT_EQ(file.find("other"), nullptr);
  EXPECT_EQ(file.get_int("other"), std::nullopt);
  EXPECT_EQ(file.get_double("other"), std::nullopt);
  EXPECT_EQ(file.get_string("other"), nullptr);
  EXPECT_ERROR(file.get_string("n"), "a.gguf: key 'n' should be a string but is an integer");
  EXPECT_ERROR(file.get_int("x"), "key 'x' should be an integer but is a float");
  EXPECT_ERROR(file.get_bool("n"), "should be a boolean");
  EXPECT_ERROR(file.get_ints("n"), "should be an array of integers");
}

TEST(Gguf, TensorsLieInTheFileWithTheirContiguousDimensionLast) {
  for (const uint32_t alignment : {1u, 8u, 32u, 64u, 4096u}) {
    const test::TempDir dir;
    const File file =
        File::open(dir.write("a.gguf", GgufBuilder()
                                           .alignment(alignment)
                                           .tensor("a", DType::i8, {3}, "abc")
                                           .tensor("b", DType::q4_0, {2, 64}, std::string(72, 'q'))
                                           .tensor("c", DType::i8, {1, 2, 2, 1}, "wxyz")
                                           .tensor("d", DType::i8, {}, "s")
                                           .build()));
    ASSERT_EQ(file.tensors().size(), 4u);
    EXPECT_EQ(elements<char>(file.tensors()[0]), (std::vector<char>{'a', 'b', 'c'}));
    EXPECT_EQ(file.tensors()[1].shape, (Shape{2, 64}));
    EXPECT_EQ(file.tensors()[1].dtype, DType::q4_0);
    EXPECT_EQ(elements<char>(file.tensors()[1]), std::vector<char>(72, 'q'));
    EXPECT_EQ(file.tensors()[2].shape, (Shape{1, 2, 2, 1}));
    EXPECT_EQ(elements<char>(file.tensors()[2]), (std::vector<char>{'w', 'x', 'y', 'z'}));
    EXPECT_EQ(file.tensors()[3].shape, Shape{});
    EXPECT_EQ(elements<char>(file.tensors()[3]), std::vector<char>{'s'});
  }
}

TEST(Gguf, DataOutlivesTheFileObject) {
  const test::TempDir dir;
  TensorInfo tensor;
  {
    const File file =
        File::open(dir.write("a.gguf", GgufBuilder().tensor("a", DType::i8, {3}, "abc").build()));
    tensor = file.tensors()[0];
  }
  EXPECT_EQ(elements<char>(tensor), (std::vector<char>{'a', 'b', 'c'}));
}

TEST(Gguf, TensorsMayLieInAnyOrderAndLeaveHoles) {
  const std::string bytes = GgufBuilder()
                                .tensor_raw("late", {2}, 24, 96)
                                .tensor_raw("early", {2}, 24, 0)
                                .data_raw("ea" + std::string(94, '.') + "la")
                                .build();
  const File file = File::parse(std::as_bytes(std::span(bytes)), "memory");
  EXPECT_EQ(elements<char>(file.tensors()[0]), (std::vector<char>{'l', 'a'}));
  EXPECT_EQ(elements<char>(file.tensors()[1]), (std::vector<char>{'e', 'a'}));
}

std::vector<std::string> write_parts(const test::TempDir& dir) {
  std::vector<std::string> paths;
  for (int part = 0; part < 3; ++part) {
    GgufBuilder builder;
    if (part == 0) builder.kv("general.architecture", "llama");
    builder.split(part, 3, 3).tensor("t" + std::to_string(part), DType::i8, {1}, std::string(1, 'a' + part));
    paths.push_back(dir.write(GgufBuilder::part_name("m", part, 3), builder.build()));
  }
  return paths;
}

TEST(Gguf, AnyPartOfASplitModelOpensTheWhole) {
  const test::TempDir dir;
  for (const std::string& path : write_parts(dir)) {
    const File file = File::open(path);
    EXPECT_EQ(*file.get_string("general.architecture"), "llama");
    ASSERT_EQ(file.tensors().size(), 3u);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(elements<char>(file.tensors()[i]), std::vector<char>{static_cast<char>('a' + i)});
    }
  }
}

TEST(Gguf, APartThatIsMissingMisnamedOrForeignIsAnError) {
  const test::TempDir dir;
  const auto paths = write_parts(dir);
  const std::string renamed = (dir.path() / "renamed.gguf").string();
  std::filesystem::copy(paths[1], renamed);
  EXPECT_ERROR(File::open(renamed), "should end in -00002-of-00003.gguf");

  std::filesystem::rename(paths[2], paths[2] + ".away");
  EXPECT_ERROR(File::open(paths[0]), "m-00003-of-00003.gguf is missing");

  std::filesystem::copy(paths[1], paths[2]);
  EXPECT_ERROR(File::open(paths[0]), "its keys say part 1 of 3; part 2 of 3 was expected");

  dir.write("m-00003-of-00003.gguf", GgufBuilder().split(2, 3, 3).tensor("t1", DType::i8, {1}).build());
  EXPECT_ERROR(File::open(paths[0]), "the tensor 't1' is in another part too");

  dir.write("m-00003-of-00003.gguf", GgufBuilder().split(2, 3, 3).build());
  EXPECT_ERROR(File::open(paths[0]), "the parts hold 2 tensors; split.tensors.count says 3");

  dir.write("m-00003-of-00003.gguf", GgufBuilder().split(2, 4, 3).build());
  EXPECT_ERROR(File::open(paths[0]), "its keys say part 2 of 4");
}

TEST(Gguf, AModelInOnePartIsNoSplitModel) {
  const test::TempDir dir;
  const File file = File::open(dir.write("a.gguf", GgufBuilder().split(0, 1, 0).build()));
  EXPECT_EQ(file.get_int("split.count"), 1);
}

TEST(GgufOfThePythonPackage, EveryTypeReadsBack) {
  const File file = File::open(test::golden_path("formats/package.gguf"));
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(*file.get_string("general.architecture"), "llama");
  EXPECT_EQ(file.get_int("general.alignment"), 64);
  EXPECT_EQ(file.get_int("test.u8"), 200);
  EXPECT_EQ(file.get_int("test.i8"), -100);
  EXPECT_EQ(file.get_int("test.u16"), 60000);
  EXPECT_EQ(file.get_int("test.i16"), -30000);
  EXPECT_EQ(file.get_int("test.u32"), 4000000000);
  EXPECT_EQ(file.get_int("test.i32"), -2000000000);
  EXPECT_EQ(file.get_int("test.u64"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(file.get_int("test.i64"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(file.get_double("test.f32"), 0.5);
  EXPECT_EQ(file.get_double("test.f64"), 0.1);
  EXPECT_EQ(file.get_bool("test.bool"), true);
  EXPECT_EQ(*file.get_string("test.string"), "ein Läma");
  EXPECT_EQ(*file.get_strings("test.strings"), (std::vector<std::string>{"a", "", "▁b"}));
  EXPECT_EQ(*file.get_ints("test.ints"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(*file.get_doubles("test.floats"), (std::vector<double>{0.5, -1.5}));
  EXPECT_EQ(std::get<std::vector<bool>>(*file.find("test.bools")), (std::vector<bool>{true, false, true}));

  ASSERT_EQ(file.tensors().size(), 4u);
  const TensorInfo& matrix = file.tensors()[0];
  EXPECT_EQ(matrix.name, "matrix.f32");
  EXPECT_EQ(matrix.shape, (Shape{3, 5}));
  const auto values = elements<float>(matrix);
  ASSERT_EQ(values.size(), 15u);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(values[i], static_cast<float>(i) / 4 - 3);
  EXPECT_EQ(file.tensors()[1].dtype, DType::f16);
  EXPECT_EQ(file.tensors()[1].shape, (Shape{2, 3, 4}));
  EXPECT_EQ(elements<uint16_t>(file.tensors()[1])[0], 0xc200);  // -3
  EXPECT_EQ(file.tensors()[2].dtype, DType::q8_0);
  EXPECT_EQ(file.tensors()[2].shape, (Shape{2, 64}));
  EXPECT_EQ(elements<int32_t>(file.tensors()[3]), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(GgufOfThePythonPackage, ASplitModelReadsBack) {
  const File file = File::open(test::golden_path("formats/package-00002-of-00003.gguf"));
  EXPECT_EQ(*file.get_string("test.string"), "in the first part");
  ASSERT_EQ(file.tensors().size(), 5u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(file.tensors()[i].name, "blk." + std::to_string(i) + ".weight");
    EXPECT_EQ(elements<float>(file.tensors()[i])[0], static_cast<float>(i) - 3);
  }
}

}  // namespace
}  // namespace llamita::gguf
