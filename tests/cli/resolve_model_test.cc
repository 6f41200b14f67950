#include "cli/resolve_model.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita::cli {
namespace {

TEST(LooksLikeModel, TellsModelsFromPrompts) {
  const test::TempDir dir;
  for (const std::string model : {dir.path().string(), std::string(kDefaultModel), std::string("./absent.gguf"),
                                  std::string("model.gguf"), std::string("~/models/x"),
                                  std::string("Qwen/Qwen2.5-3B-Instruct"), std::string("org/name:Q4_K_M")}) {
    EXPECT_TRUE(looks_like_model(model)) << model;
  }
  for (const char* prompt : {"Hello", "Why is the sky blue?", "and/or what", "a/b/c", "either/", "km/h?", ""}) {
    EXPECT_FALSE(looks_like_model(prompt)) << prompt;
  }
}

TEST(ResolveModel, PathsAreThemselves) {
  const test::TempDir dir;
  const std::string file = dir.write("model.gguf", "x");
  EXPECT_EQ(resolve_model(file), file);
  EXPECT_EQ(resolve_model(dir.path().string()), dir.path().string());
}

TEST(ResolveModel, SaysWhatItKnowsWhenAModelIsNotThere) {
  EXPECT_ERROR(resolve_model("./absent.gguf"), "./absent.gguf");
  EXPECT_ERROR(resolve_model("absent-model"), "absent-model");
}

}  // namespace
}  // namespace llamita::cli
