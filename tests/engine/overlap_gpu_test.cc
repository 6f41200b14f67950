// Two steps under way on a GPU, where tokens stay on the card from step to step: the replies are those of one
// step at a time, and once every size of step was met nothing allocates.
#include <gtest/gtest.h>

#include "engine/compute_device.h"
#include "engine/engine.h"
#include "hw/cuda/device_properties.h"
#include "hw/cuda/memory.h"
#include "support/golden_model.h"

namespace llamita {
namespace {

class GpuOverlap : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
    path_ = test::golden_model(GetParam());
    config_.device = "cuda";
    config_.threads = 1;
    config_.context = 128;
    model_ = load_model(path_, {}, choose_placement(config_));
    tokenizer_ = Tokenizer::from_folder(path_);
  }

  std::unique_ptr<Engine> engine(int steps_under_way) {
    config_.steps_under_way = steps_under_way;
    return std::make_unique<Engine>(*model_, *tokenizer_, config_);
  }

  std::string path_;
  EngineConfig config_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TokenRequest request_of(int length, int salt, int max_tokens) {
  TokenRequest request;
  for (int t = 0; t < length; ++t) request.prompt.push_back((t * 31 + salt * 7) % 200);
  request.sampling.seed = static_cast<uint64_t>(salt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

// What may depend on the company of a step must not differ between the two ways: these end together.
std::vector<TokenRequest> equally_long(int count) {
  std::vector<TokenRequest> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back(request_of(5 + 9 * i, i, 30));
    SamplingParams& sampling = requests.back().sampling;
    if (i % 4 == 0) sampling.temperature = 0;
    if (i % 4 == 1) sampling.repetition_penalty = 1.4f;
    if (i % 4 == 2) sampling.frequency_penalty = 0.8f, sampling.top_p = 0.9f;
    if (i % 4 == 3) sampling.logprobs = 2, sampling.top_k = 30;
    if (i % 3 == 2) sampling.logit_bias = {{5, 3.0f}, {9, -2.0f}};
  }
  return requests;
}

void expect_same(const std::vector<Completion>& got, const std::vector<Completion>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t r = 0; r < got.size(); ++r) {
    ASSERT_EQ(got[r].choices[0].error, "");
    EXPECT_EQ(got[r].choices[0].tokens, expected[r].choices[0].tokens) << "request " << r;
    EXPECT_EQ(got[r].choices[0].text, expected[r].choices[0].text);
    EXPECT_EQ(got[r].choices[0].finish, expected[r].choices[0].finish);
    ASSERT_EQ(got[r].choices[0].logprobs.size(), expected[r].choices[0].logprobs.size());
    for (size_t t = 0; t < got[r].choices[0].logprobs.size(); ++t)
      EXPECT_EQ(got[r].choices[0].logprobs[t].chosen.logprob,
                expected[r].choices[0].logprobs[t].chosen.logprob);
  }
}

TEST_P(GpuOverlap, RepliesAreThoseOfOneStepAtATime) {
  const auto one = engine(1), two = engine(2);
  for (const int together : {1, 3, 6}) {
    const std::vector<TokenRequest> requests = equally_long(together);
    expect_same(two->generate(requests), one->generate(requests));
  }
  // Alone, whatever ends it.
  for (int salt = 0; salt < 6; ++salt) {
    TokenRequest request = request_of(20 + salt, salt, 40);
    if (salt % 2 == 0) {
      request.sampling.stop = {"e", "00"};
    } else {
      request.sampling.ignore_eos = false;
      for (int32_t token = salt; token < 200; token += 9) request.sampling.stop_token_ids.push_back(token);
    }
    expect_same(two->generate({request}), one->generate({request}));
  }
  EXPECT_EQ(two->scheduler().check_integrity(), "");
  EXPECT_EQ(two->stats().blocks_used, 0);
}

// Replies of 3, 3 + more, 3 + 2 more, ... tokens, begun together, with two steps under way.
void expect_nothing_left(Engine& two, int count, int more) {
  std::vector<TokenRequest> requests = equally_long(count);
  for (size_t i = 0; i < requests.size(); ++i)
    requests[i].sampling.max_tokens = 3 + more * static_cast<int>(i);
  const std::vector<Completion> done = two.generate(requests);
  for (size_t i = 0; i < done.size(); ++i) {
    EXPECT_EQ(done[i].choices[0].error, "");
    EXPECT_EQ(static_cast<int>(done[i].choices[0].tokens.size()), requests[i].sampling.max_tokens);
  }
  EXPECT_EQ(two.scheduler().check_integrity(), "");
  EXPECT_EQ(two.stats().blocks_used, 0);
}

TEST_P(GpuOverlap, MixedStepsEndOneByOneAndLeaveNothingBehind) { expect_nothing_left(*engine(2), 9, 4); }

// As few as compute-sanitizer can wait for.
TEST_P(GpuOverlap, FewMixedStepsLeaveNothingBehind) { expect_nothing_left(*engine(2), 3, 2); }

TEST_P(GpuOverlap, NothingAllocatesOnceEverySizeWasMet) {
  const auto two = engine(2);
  const std::vector<TokenRequest> requests = equally_long(6);
  for (int warm_up = 0; warm_up < 3; ++warm_up) two->generate(requests);  // meets, captures, replays
  const int64_t before = cuda::allocations();
  for (int round = 0; round < 3; ++round) two->generate(requests);
  EXPECT_EQ(cuda::allocations(), before);
}

INSTANTIATE_TEST_SUITE_P(Families, GpuOverlap, testing::Values("llama", "qwen2", "gpt2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace llamita
