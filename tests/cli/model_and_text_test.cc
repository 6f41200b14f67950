#include "cli/model_and_text.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/resolve_model.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita::cli {
namespace {

// With a cache of its own, in which nothing is but "org/here".
class ModelAndTextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto snapshot = dir_.path() / "models--org--here/snapshots/main";
    std::filesystem::create_directories(snapshot);
    dir_.write("models--org--here/snapshots/main/m.gguf", "x");
    ::setenv("HF_HUB_CACHE", dir_.path().c_str(), 1);
  }
  void TearDown() override { ::unsetenv("HF_HUB_CACHE"); }

  // As the command line would parse it.
  static ModelAndText settled(const std::vector<std::string>& arguments, const std::string& option = "",
                              bool text_elsewhere = false) {
    ModelAndText out;
    OptionSet options;
    out.declare_arguments(options, "TEXT", "");
    out.declare_option(options);
    for (size_t i = 0; i < arguments.size(); ++i) options.options()[i].take(arguments[i]);
    if (!option.empty()) options.options()[2].take(option);
    out.settle("generate", text_elsewhere);
    return out;
  }
  test::TempDir dir_;
};

TEST_F(ModelAndTextTest, ALoneArgumentIsAModelOnlyWhenItIsOneHere) {
  for (const std::string& model :
       {dir_.path().string(), std::string(kDefaultModel), std::string("m.gguf"), std::string("org/here")}) {
    EXPECT_EQ(settled({model}).model, model);
    EXPECT_FALSE(settled({model}).has_text);
  }
  for (const char* text :
       {"Hello", "Why is the sky blue?", "and/or what", "a/b/c", "km/h?", "/ is a slash", ""}) {
    EXPECT_EQ(settled({text}).model, "");
    EXPECT_EQ(settled({text}).text, text);
    EXPECT_TRUE(settled({text}).has_text);
  }
}

TEST_F(ModelAndTextTest, WhatCouldBeEitherIsAsked) {
  for (const char* text :
       {"yes/no", "Qwen/Qwen2.5-3B-Instruct", "org/name:Q4_K_M", "./absent", "~/models/x"}) {
    EXPECT_ERROR(settled({text}), std::string("`llamita generate --model ") + text + "`");
    EXPECT_ERROR(settled({text}), std::string("--model smollm2-135m-instruct ") + text);
    EXPECT_EQ(settled({text}, "", true).model, text);  // the prompt is in a file
    EXPECT_EQ(settled({text, "hi"}).model, text);
    EXPECT_EQ(settled({}, text).model, text);
    EXPECT_EQ(settled({text}, "m.gguf").text, text);
  }
  EXPECT_THROW(settled({"yes/no"}), UsageError);
}

TEST_F(ModelAndTextTest, OneTextIsEnough) {
  EXPECT_THROW(settled({"a", "b"}, "m.gguf"), UsageError);
  EXPECT_FALSE(settled({}).has_text);
}

}  // namespace
}  // namespace llamita::cli
