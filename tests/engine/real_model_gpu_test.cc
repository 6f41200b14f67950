// A real model on a GPU beside the same file on the CPU, in f32 and without rounded activations: the text
// that people read; and beside transformers in fp32 when the file is that of tests/golden/smollm2.
// LLAMITA_TEST_MODEL names the file or folder (`make test-gpu TEST_MODEL=...`); without it these skip aloud.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "engine/served_model.h"
#include "hw/cuda/device_properties.h"
#include "support/distributions.h"
#include "support/real_model.h"

namespace llamita {
namespace {

class RealModel : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
    path_ = test::real_model_path();
    if (path_.empty()) GTEST_SKIP() << "LLAMITA_TEST_MODEL names no model";
  }

  static EngineConfig config_of(const std::string& device) {
    EngineConfig config;
    config.device = device;
    config.context = 512;
    if (device == "cpu") config.kv_dtype = "f32";
    return config;
  }
  std::vector<float> logits(const std::string& device, const std::vector<int32_t>& ids) const {
    return test::real_model_logits(path_, config_of(device), device == "cpu", ids);
  }

  std::string path_;
};

TEST_F(RealModel, LogitsAreTheCpusAsFarAsBf16Allows) {
  const std::vector<int32_t> ids = Tokenizer::load(path_)->encode(test::real_model_text(), true, false);
  const std::vector<float> want = logits("cpu", ids), got = logits("cuda", ids);
  ASSERT_EQ(got.size(), want.size());
  const size_t vocab = want.size() / ids.size();
  const double kl = test::mean_kl(want, got, vocab);
  std::printf("%zu positions: mean KL %.2e\n", ids.size(), kl);
  EXPECT_LE(kl, 1e-3);
  EXPECT_EQ(test::clear_choices_missed(want, got, vocab, 0.5f), 0);
}

// In bf16 and f16, prompts' kernels and, with one token a step, those of decoding.
TEST_F(RealModel, LogitsAreTransformersAsFarAs16BitsAllow) {
  if (!test::is_golden_model(path_)) GTEST_SKIP() << path_ << " is not the file of tests/golden/smollm2";
  const test::TopLogits golden = test::read_top_logits();
  for (const char* dtype : {"bf16", "f16"}) {
    for (const int step : {64, 1}) {
      EngineConfig config = config_of("cuda");
      config.gpu_dtype = dtype;
      config.batch_sequences = step;  // rows of logits that a step has room for
      const test::Distance found =
          test::distance_of(golden, test::real_model_logits(path_, config, false, golden.ids));
      std::printf(
          "%s, %d tokens a step: mean KL %.2e, RMS of log probabilities %.2e, a logit by %.2e, %d of %d "
          "clear choices missed\n",
          dtype, step, found.mean_kl, found.rms_log_prob, found.largest_logit, found.clear_missed,
          found.clear);
      EXPECT_LE(found.mean_kl, 1e-3) << dtype << ", " << step << " tokens a step";
      ASSERT_GT(found.clear, 0);
      EXPECT_EQ(found.clear_missed, 0) << dtype << ", " << step << " tokens a step";
    }
  }
}

// Greedy replies to questions: equal to the CPU's, or parted where the CPU's two best are close.
TEST_F(RealModel, GreedyTextIsTheCpusWhereMarginsAllow) {
  const auto replies = [&](const std::string& device) {
    const auto exact = device == "cpu" ? std::make_unique<test::ExactLinear>() : nullptr;
    const auto served = ServedModel::load(path_, config_of(device), {});
    std::vector<TokenRequest> requests;
    for (const char* question : {"What is the capital of France?", "Write one sentence about the sea.",
                                 "Name three colours.", "Why is the sky blue?"}) {
      Request request{Conversation{{"user", question}}, {}};
      request.sampling.temperature = 0;
      request.sampling.max_tokens = 48;
      requests.push_back(served->preparer.prepare(request));
    }
    std::vector<Completion> done = served->engine.generate(requests);
    return std::pair(requests, done);
  };
  const auto [requests, on_gpu] = replies("cuda");
  const auto on_cpu = replies("cpu").second;
  for (size_t r = 0; r < requests.size(); ++r) {
    const Choice &gpu = on_gpu[r].choices[0], &cpu = on_cpu[r].choices[0];
    ASSERT_EQ(gpu.error, "");
    std::printf("%s\n", gpu.text.c_str());
    const auto parted =
        std::mismatch(gpu.tokens.begin(), gpu.tokens.end(), cpu.tokens.begin(), cpu.tokens.end());
    if (parted.first == gpu.tokens.end() || parted.second == cpu.tokens.end()) continue;
    std::vector<int32_t> ids = requests[r].prompt;
    ids.insert(ids.end(), cpu.tokens.begin(), parted.second);
    const std::vector<float> all = logits("cpu", ids);
    const float* row = all.data() + all.size() / ids.size() * (ids.size() - 1);
    EXPECT_LT(row[*parted.second] - row[*parted.first], 0.5f)
        << "reply " << r << " parts at token " << parted.first - gpu.tokens.begin();
  }
}

}  // namespace
}  // namespace llamita
