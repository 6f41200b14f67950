// The engine over real (tiny) checkpoints of every family: what transformers computes, whatever the batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/direct_runner.h"
#include "engine/engine.h"
#include "support/golden_model.h"

namespace llamita {
namespace {

class TinyModels : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    model_ = load_model(test::golden_model(GetParam()));
    tokenizer_ = Tokenizer::from_folder(test::golden_model(GetParam()));
    config_.kv_dtype = "f32";
    config_.threads = 1;
    // Scaled positions are among those tested.
    config_.context = std::min(longest_context(model_->config()), 200);
  }

  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  EngineConfig config_;
};

TEST_P(TinyModels, TeacherForcedLogitsEqualTransformers) {
  const test::Golden golden = test::read_golden(GetParam(), 0);
  DirectRunner runner(*model_, config_);
  const std::vector<float> logits = runner.logits_of(golden.ids);
  ASSERT_EQ(logits.size(), golden.logits.size());
  float worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - golden.logits[i]));
  EXPECT_LT(worst, 2e-4f);
}

TEST_P(TinyModels, GreedyRepliesFollowTransformersLogits) {
  const test::Golden golden = test::read_golden(GetParam(), 0);
  const auto vocab = static_cast<size_t>(model_->config().vocab);
  Engine engine(*model_, *tokenizer_, config_);
  std::vector<TokenRequest> requests;
  for (size_t length = 1; length <= golden.ids.size(); length += 5) {
    requests.push_back({{golden.ids.begin(), golden.ids.begin() + static_cast<ptrdiff_t>(length)}, {}, ""});
    requests.back().sampling.temperature = 0;
    requests.back().sampling.max_tokens = 1;
  }
  for (const Completion& done : engine.generate(requests)) {
    ASSERT_EQ(done.choices[0].error, "");
    const float* row = golden.logits.data() + static_cast<size_t>(done.prompt_tokens - 1) * vocab;
    const float best = *std::max_element(row, row + tokenizer_->vocab_size());
    EXPECT_GT(row[done.choices[0].tokens[0]], best - 4e-4f) << "after " << done.prompt_tokens << " tokens";
  }
}

TEST_P(TinyModels, RepliesAndTheirProbabilitiesAreTheSameBitsInAnyCompany) {
  const int vocab = std::min(model_->config().vocab, tokenizer_->vocab_size());
  const int longest = config_.context;
  std::vector<TokenRequest> requests;
  for (int i = 0; i < 6; ++i) {
    TokenRequest request;
    for (int t = 0; t < 1 + longest * i / 8; ++t) request.prompt.push_back((t * 31 + i * 7 + t * t) % vocab);
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.temperature = i == 3 ? 0.0f : 0.8f;
    request.sampling.top_p = 0.95f;
    request.sampling.max_tokens = longest / 5;
    request.sampling.ignore_eos = true;
    request.sampling.logprobs = 2;
    request.sampling.n = i == 4 ? 2 : 1;
    requests.push_back(request);
  }
  const auto replies = [&](const std::vector<TokenRequest>& asked, int batch_tokens, int pages, int threads) {
    EngineConfig config = config_;
    config.batch_tokens = batch_tokens;
    config.threads = threads;
    config.kv_bytes = plan_memory(model_->config(), config, 0).kv_bytes_per_token * kPageTokens * pages;
    Engine engine(*model_, *tokenizer_, config);
    return engine.generate(asked);
  };
  std::vector<Completion> alone;
  for (const TokenRequest& request : requests) alone.push_back(replies({request}, 512, 8, 1)[0]);
  for (const auto& [batch_tokens, pages, threads] :
       {std::array{512, 64, 2}, std::array{7, 64, 1}, std::array{40, 4, 2}}) {
    const std::vector<Completion> together = replies(requests, batch_tokens, pages, threads);
    for (size_t r = 0; r < requests.size(); ++r) {
      for (size_t c = 0; c < alone[r].choices.size(); ++c) {
        const Choice &want = alone[r].choices[c], &got = together[r].choices[c];
        ASSERT_EQ(want.error, "");
        ASSERT_EQ(got.tokens, want.tokens) << "request " << r << ", steps of " << batch_tokens;
        for (size_t t = 0; t < want.logprobs.size(); ++t) {
          ASSERT_EQ(got.logprobs[t].chosen.logprob, want.logprobs[t].chosen.logprob)
              << "request " << r << " token " << t;
          ASSERT_EQ(got.logprobs[t].top.size(), 2u);
          ASSERT_EQ(got.logprobs[t].top[1].logprob, want.logprobs[t].top[1].logprob);
        }
        ASSERT_EQ(got.text, want.text);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModels, testing::ValuesIn(test::kGoldenModels), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace llamita
