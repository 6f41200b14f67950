// A real model on the CPU beside transformers in fp32 on the same file: SmolLM2-135M-Instruct in Q4_1, which
// LLAMITA_TEST_MODEL must name (`llamita pull smollm2-135m-instruct`); without it these skip aloud.
#include <gtest/gtest.h>

#include <cstdio>

#include "support/real_model.h"
#include "text/tokenizer.h"

namespace llamita {
namespace {

class RealModelOnCpu : public testing::Test {
 protected:
  void SetUp() override {
    path_ = test::real_model_path();
    if (path_.empty()) GTEST_SKIP() << "LLAMITA_TEST_MODEL names no model";
    if (!test::is_golden_model(path_)) GTEST_SKIP() << path_ << " is not the file of tests/golden/smollm2";
    golden_ = test::read_top_logits();
  }

  test::Distance distance(bool exact) const {
    EngineConfig config;
    config.device = "cpu";
    const test::Distance found =
        test::distance_of(golden_, test::real_model_logits(path_, config, exact, golden_.ids));
    std::printf(
        "mean KL %.2e, RMS of log probabilities %.2e, a logit by %.2e, %d of %d clear choices missed\n",
        found.mean_kl, found.rms_log_prob, found.largest_logit, found.clear_missed, found.clear);
    return found;
  }

  std::string path_;
  test::TopLogits golden_;
};

TEST_F(RealModelOnCpu, TokensAreTransformers) {
  EXPECT_EQ(Tokenizer::load(path_)->encode(test::real_model_text(), false, false), golden_.ids);
}

TEST_F(RealModelOnCpu, LogitsInF32AreTransformers) {
  const test::Distance found = distance(true);
  EXPECT_LE(found.rms_log_prob, 0.005);
  EXPECT_LE(found.largest_logit, 0.02);
  ASSERT_GT(found.clear, 0);
  EXPECT_EQ(found.clear_missed, 0);
}

// The default kernels round activations to eight bits as llama.cpp does, whose own mean KL to the same
// weights in F32 is 3.6e-3 (docs/answers.md): at most one and a half times that.
TEST_F(RealModelOnCpu, LogitsOfRoundedActivationsAreAsNearAsLlamaCpps) {
  EXPECT_LE(distance(false).mean_kl, 5.4e-3);
}

}  // namespace
}  // namespace llamita
