#include "cli/greeting.h"

#include <gtest/gtest.h>

#include "cli/resolve_model.h"

namespace llamita::cli {
namespace {

std::string greeting_of(const std::string& model) {
  ModelInfo info;
  info.parameters = 135'000'000;
  info.weight_bytes = 98 << 20;
  info.context = 2048;
  return greeting(info, model, Paint{});
}

TEST(Greeting, TheDefaultModelSaysWhatItIsAndHowToGetABetterOne) {
  for (const std::string& model : {std::string(), std::string(kDefaultModel), std::string("smollm2")}) {
    const std::string text = greeting_of(model);
    EXPECT_NE(text.find("135M demonstration"), std::string::npos) << model;
    EXPECT_NE(text.find("llamita chat Qwen/Qwen2.5-3B-Instruct\n"), std::string::npos) << model;
  }
}

TEST(Greeting, OtherModelsAreNamedAlone) {
  const std::string text = greeting_of("org/other");
  EXPECT_EQ(text.rfind("org/other: ", 0), 0u) << text;
  EXPECT_NE(text.find("context 2048 tokens"), std::string::npos);
  EXPECT_NE(text.find("/help"), std::string::npos);
  EXPECT_EQ(text.find("demonstration"), std::string::npos);
}

}  // namespace
}  // namespace llamita::cli
