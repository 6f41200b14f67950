#include "formats/split_name.h"

#include <gtest/gtest.h>

namespace llamita {
namespace {

TEST(SplitName, ReadsWhatItWrites) {
  const auto name = parse_split_name("/models/llama" + split_suffix(2, 3));
  ASSERT_TRUE(name);
  EXPECT_EQ(name->stem, "/models/llama");
  EXPECT_EQ(name->part, 2);
  EXPECT_EQ(name->count, 3);
}

TEST(SplitName, OtherNamesAreWhole) {
  for (const char* name :
       {"", "m.gguf", "best-of-8-q4.gguf", "m-00001-of-00003.ggu", "m-00001-of-00003.gguf.part",
        "m-0000x-of-00003.gguf", "m-00004-of-00003.gguf", "m-00000-of-00003.gguf", "m-1-of-3.gguf",
        "m-+0001-of-00003.gguf", "m_00001-of-00003.gguf", "-00001-of-00003.gguf"}) {
    EXPECT_FALSE(parse_split_name(name)) << name;
  }
}

}  // namespace
}  // namespace llamita
