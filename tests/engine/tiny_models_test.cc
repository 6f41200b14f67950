// The engine over real (tiny) checkpoints of every family: what transformers computes, whatever the batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "engine/async_support.h"
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

  void expect_the_same_bits_in_any_company();

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
  expect_the_same_bits_in_any_company();
}

TEST_P(TinyModels, AnInt8CacheGivesTheSameBitsInAnyCompany) {
  config_.kv_dtype = "int8";
  expect_the_same_bits_in_any_company();
}

// Large and small steps, one thread and two, pages for all and so few that sequences are put back; and again
// from the prefixes that the first round left.
void TinyModels::expect_the_same_bits_in_any_company() {
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
    std::vector<Completion> done = engine.generate(asked);
    if (asked.size() > 1) {
      for (Completion& again : engine.generate(asked)) done.push_back(std::move(again));
    }
    return done;
  };
  std::vector<Completion> alone;
  for (const TokenRequest& request : requests) alone.push_back(replies({request}, 512, 8, 1)[0]);
  for (const auto& [batch_tokens, pages, threads] :
       {std::array{512, 64, 2}, std::array{7, 64, 1}, std::array{40, 4, 2}}) {
    const std::vector<Completion> together = replies(requests, batch_tokens, pages, threads);
    ASSERT_EQ(together.size(), 2 * requests.size());
    for (size_t i = 0; i < together.size(); ++i) {
      const size_t r = i % requests.size();
      for (size_t c = 0; c < alone[r].choices.size(); ++c) {
        const Choice &want = alone[r].choices[c], &got = together[i].choices[c];
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

// The last token's final-norm state, of length 1, is the same bits whatever else runs.
TEST_P(TinyModels, EmbeddingsAreTheLastFinalNormState) {
  const test::Golden golden = test::read_golden(GetParam(), 0);
  const size_t width = golden.hidden.back().size() / golden.ids.size();
  std::vector<float> expected(golden.hidden.back().end() - static_cast<ptrdiff_t>(width),
                              golden.hidden.back().end());
  double norm = 0;
  for (const float value : expected) norm += double{value} * value;
  for (float& value : expected) value = static_cast<float>(value / std::sqrt(norm));

  TokenRequest request{golden.ids, {}, "", true};
  TokenRequest other{{1, 2, 3}, {}, ""};
  other.sampling.max_tokens = 12;
  other.sampling.ignore_eos = true;
  std::vector<float> first;
  for (const int batch_tokens : {512, 7, 20}) {
    EngineConfig config = config_;
    config.batch_tokens = batch_tokens;
    Engine engine(*model_, *tokenizer_, config);
    for (int round = 0; round < 2; ++round) {  // the second one finds a prefix
      const auto done = engine.generate({other, request, other});
      const std::vector<float>& got = done[1].embedding;
      ASSERT_EQ(got.size(), width);
      EXPECT_EQ(done[1].choices[0].finish, FinishReason::stop);
      EXPECT_EQ(done[1].completion_tokens, 0);
      EXPECT_EQ(done[1].prompt_tokens, static_cast<int>(golden.ids.size()));
      for (size_t i = 0; i < width; ++i) EXPECT_NEAR(got[i], expected[i], 1e-4f);
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << "steps of " << batch_tokens;
      EXPECT_EQ(done[0].choices[0].tokens.size(), 12u);
    }
  }
}

// Through the step thread, from several threads at once, with probabilities to the last bit.
TEST_P(TinyModels, AsyncRepliesAreTheSameBitsAsAlone) {
  const int vocab = std::min(model_->config().vocab, tokenizer_->vocab_size());
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    std::vector<int32_t> prompt;
    for (int t = 0; t < 65 + 4 * i; ++t) prompt.push_back((t * 31 + (t < 64 ? 0 : i * 7)) % vocab);
    requests.push_back({prompt, {}});
    requests.back().sampling.seed = static_cast<uint64_t>(i);
    requests.back().sampling.max_tokens = 9;  // within the shortest context, 96
    requests.back().sampling.logprobs = 1;
    requests.back().sampling.ignore_eos = true;
  }
  config_.batch_tokens = 40;
  std::vector<Completion> alone;
  for (const Request& request : requests) {
    Engine engine(*model_, *tokenizer_, config_);
    alone.push_back(
        engine.generate({{std::get<std::vector<int32_t>>(request.prompt), request.sampling, ""}})[0]);
    ASSERT_EQ(alone.back().choices[0].error, "");
  }
  config_.kv_bytes = plan_memory(model_->config(), config_, 0).kv_bytes_per_token * kPageTokens * 5;
  config_.queue_tokens = 1 << 20;                                  // all of them may wait
  std::vector<test::Listener> all_listeners(3 * requests.size());  // they outlive the engine
  const auto engine = AsyncEngine::load(test::golden_model(GetParam()), config_);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      test::Listener* listeners = &all_listeners[thread * requests.size()];
      for (size_t i = 0; i < requests.size(); ++i) {
        const size_t r = (i + 2 * thread) % requests.size();
        ASSERT_TRUE(engine->submit(engine->prepare(requests[r]), {}, listeners[r].on_update()));
      }
      for (size_t r = 0; r < requests.size(); ++r) {
        const Completion done = listeners[r].wait();
        const Choice &want = alone[r].choices[0], &got = done.choices[0];
        EXPECT_EQ(got.tokens, want.tokens) << "request " << r;
        ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
        for (size_t t = 0; t < want.logprobs.size(); ++t) {
          EXPECT_EQ(got.logprobs[t].chosen.logprob, want.logprobs[t].chosen.logprob);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(engine->stats().prefix_hit_tokens, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModels, testing::ValuesIn(test::kGoldenModels), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace llamita
