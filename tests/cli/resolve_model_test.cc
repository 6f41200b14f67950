#include "cli/resolve_model.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita::cli {
namespace {

TEST(ResolveModel, PathsAreThemselves) {
  const test::TempDir dir;
  const std::string file = dir.write("model.gguf", "x");
  EXPECT_EQ(resolve_model(file), file);
  EXPECT_EQ(resolve_model(dir.path().string()), dir.path().string());
}

TEST(DisplayName, IsWhatPeopleAskedFor) {
  const test::TempDir dir;
  EXPECT_EQ(display_name(""), kDefaultModel);
  EXPECT_EQ(display_name("Qwen/Qwen2.5-3B-Instruct"), "Qwen/Qwen2.5-3B-Instruct");
  EXPECT_EQ(display_name(dir.write("model.gguf", "x")), "model.gguf");
  EXPECT_EQ(display_name(dir.path().string() + "//"), dir.path().filename().string());
  EXPECT_EQ(display_name("/"), "/");
  EXPECT_EQ(display_name("."), ".");
}

TEST(ResolveModel, SaysWhatItKnowsWhenAModelIsNotThere) {
  EXPECT_ERROR(resolve_model("./absent.gguf"), "./absent.gguf");
  EXPECT_ERROR(resolve_model("absent-model"), "absent-model");
}

}  // namespace
}  // namespace llamita::cli
