// Whole models on a GPU: every family against transformers in fp32, GGUF files against the checkpoints they
// were made from, replies against the CPU's probabilities, and graphs against launches one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "engine/engine.h"
#include "hw/cuda/device_properties.h"
#include "support/distributions.h"
#include "support/golden_model.h"

namespace llamita {
namespace {

bool have_gpu() { return cuda::device_count() > 0; }

std::string test_name(std::string text) {
  text = text.substr(0, text.find('.'));
  for (char& c : text) c = c == '-' ? '_' : c;
  return text;
}

EngineConfig gpu_config(const std::string& dtype, const std::string& path = "") {
  EngineConfig config;
  config.device = "cuda";
  config.gpu_dtype = dtype;
  config.threads = 1;
  config.context = path.empty() ? 128 : std::min(longest_context(read_model_config(path)), 128);
  return config;
}

std::vector<float> gpu_logits(const std::string& path, const std::string& dtype,
                              const std::vector<int32_t>& ids) {
  const EngineConfig config = gpu_config(dtype, path);
  const auto model = load_model(path, {}, choose_placement(config));
  DirectRunner runner(*model, config);
  return runner.logits_of(ids);
}

class GpuModels : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!have_gpu()) GTEST_SKIP() << "there is no NVIDIA GPU here";
  }
};

TEST_P(GpuModels, LogitsAreThoseOfTransformersAsFarAsTheTypeAllows) {
  const std::string path = test::golden_model(GetParam());
  for (const int prompt : {0, 1}) {
    const test::Golden golden = test::read_golden(GetParam(), prompt);
    const size_t vocab = golden.logits.size() / golden.ids.size();
    for (const auto& [dtype, limit] : {std::pair{"bf16", 1e-3}, std::pair{"f16", 1e-4}}) {
      const std::vector<float> logits = gpu_logits(path, dtype, golden.ids);
      ASSERT_EQ(logits.size(), golden.logits.size());
      EXPECT_LE(test::mean_kl(golden.logits, logits, vocab), limit) << dtype << ", prompt " << prompt;
      EXPECT_EQ(test::clear_choices_missed(golden.logits, logits, vocab, 0.5f), 0) << dtype;
    }
  }
}

// Greedy replies in company, through prefill, decode and its graphs: the CPU, given what the GPU wrote, must
// hold each token for the best or nearly so.
TEST_P(GpuModels, RepliesFollowTheCpusProbabilities) {
  const std::string path = test::golden_model(GetParam());
  const EngineConfig config = gpu_config("bf16", path);
  const auto on_gpu = load_model(path, {}, choose_placement(config)), on_cpu = load_model(path);
  const auto tokenizer = Tokenizer::from_folder(path);
  const test::Golden golden = test::read_golden(GetParam(), 0);
  std::vector<TokenRequest> requests;
  for (const size_t length : {size_t{1}, size_t{7}, size_t{20}, size_t{33}, size_t{48}}) {
    TokenRequest request;
    request.prompt.assign(golden.ids.begin(), golden.ids.begin() + static_cast<std::ptrdiff_t>(length));
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 40;
    request.sampling.ignore_eos = true;
    requests.push_back(request);
  }
  Engine engine(*on_gpu, *tokenizer, config);
  const std::vector<Completion> done = engine.generate(requests);
  EngineConfig cpu = config;
  cpu.device = "cpu";
  cpu.kv_dtype = "f32";
  DirectRunner runner(*on_cpu, cpu);
  const auto vocab = static_cast<size_t>(on_cpu->config().vocab);
  for (size_t r = 0; r < requests.size(); ++r) {
    ASSERT_EQ(done[r].choices[0].error, "");
    const std::vector<int32_t>& reply = done[r].choices[0].tokens;
    ASSERT_EQ(reply.size(), 40u);
    std::vector<int32_t> text = requests[r].prompt;
    text.insert(text.end(), reply.begin(), reply.end());
    const std::vector<float> logits = runner.logits_of(text);
    for (size_t i = 0; i < reply.size(); ++i) {
      const float* row = logits.data() + (requests[r].prompt.size() + i - 1) * vocab;
      const float best = *std::max_element(row, row + tokenizer->vocab_size());
      EXPECT_GT(row[reply[i]], best - 0.25f) << "request " << r << ", token " << i;
    }
  }
}

// Each is a logit less the logarithm of the sum over all of them.
std::vector<std::pair<int32_t, float>> bits_of(const TokenInfo& info) {
  std::vector<std::pair<int32_t, float>> bits{{info.chosen.token, info.chosen.logprob}};
  for (const TokenLogprob& each : info.top) bits.emplace_back(each.token, each.logprob);
  return bits;
}

TEST_P(GpuModels, GraphsGiveTheBitsOfLaunchesOneByOne) {
  const std::string path = test::golden_model(GetParam());
  const EngineConfig config = gpu_config("bf16", path);
  const auto model = load_model(path, {}, choose_placement(config));
  const auto tokenizer = Tokenizer::from_folder(path);
  const auto replies = [&](const char* graphs) {
    setenv("LLAMITA_GRAPH", graphs, 1);
    Engine engine(*model, *tokenizer, config);
    unsetenv("LLAMITA_GRAPH");
    std::vector<Completion> all;
    for (const int together : {1, 2, 3, 5}) {
      std::vector<TokenRequest> requests;
      for (int i = 0; i < together; ++i) {
        TokenRequest request;
        for (int t = 0; t < 5 + 9 * i; ++t) request.prompt.push_back((t * 31 + i * 7) % 200);
        request.sampling.seed = static_cast<uint64_t>(i);
        request.sampling.max_tokens = 12 + 5 * i;
        request.sampling.ignore_eos = true;
        if (i % 2 == 1) request.sampling.logprobs = 20;  // else the card samples inside the graph
        requests.push_back(request);
      }
      for (Completion& each : engine.generate(requests)) all.push_back(std::move(each));
    }
    return all;
  };
  const std::vector<Completion> with = replies("on"), without = replies("off");
  ASSERT_EQ(with.size(), without.size());
  for (size_t r = 0; r < with.size(); ++r) {
    ASSERT_EQ(with[r].choices[0].error, "");
    ASSERT_EQ(with[r].choices[0].tokens, without[r].choices[0].tokens) << "reply " << r;
    ASSERT_EQ(with[r].choices[0].logprobs.size(), without[r].choices[0].logprobs.size());
    for (size_t t = 0; t < with[r].choices[0].logprobs.size(); ++t)
      ASSERT_EQ(bits_of(with[r].choices[0].logprobs[t]), bits_of(without[r].choices[0].logprobs[t]))
          << "reply " << r << ", token " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GpuModels, testing::ValuesIn(test::kGoldenModels),
                         [](const auto& info) { return test_name(info.param); });

struct GgufTwin {
  const char* file;
  const char* twin;
  double kl;  // of what the format loses, measured on the CPU, with as much again for bf16
};

class GpuGguf : public testing::TestWithParam<GgufTwin> {};

// The CPU reads the same file; what differs is arithmetic in bf16 and the CPU's rounding of activations.
TEST_P(GpuGguf, GivesTheCpusDistributions) {
  if (!have_gpu()) GTEST_SKIP() << "there is no NVIDIA GPU here";
  const std::string path = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/gguf/" + GetParam().file;
  const test::Golden golden = test::read_golden(GetParam().twin, 0);
  EngineConfig cpu = gpu_config("bf16", path);
  cpu.device = "cpu";
  const auto model = load_model(path);
  DirectRunner runner(*model, cpu);
  const std::vector<float> want = runner.logits_of(golden.ids);
  const std::vector<float> got = gpu_logits(path, "bf16", golden.ids);
  ASSERT_EQ(got.size(), want.size());
  EXPECT_LE(test::mean_kl(want, got, want.size() / golden.ids.size()), GetParam().kl);
}

INSTANTIATE_TEST_SUITE_P(Files, GpuGguf,
                         testing::Values(GgufTwin{"llama-f32.gguf", "llama", 1e-3},
                                         GgufTwin{"llama-tied-bias-f16.gguf", "llama-tied-bias", 1e-3},
                                         GgufTwin{"qwen3-bf16.gguf", "qwen3", 1e-3},
                                         GgufTwin{"gpt2-f32.gguf", "gpt2", 1e-3},
                                         GgufTwin{"llama-q8_0.gguf", "llama", 1e-3},
                                         GgufTwin{"llama-q4_1.gguf", "llama", 1e-3}),
                         [](const auto& info) { return test_name(info.param.file); });

TEST(GpuMadeUp, WeightsAreThoseOfTheCpu) {
  if (!have_gpu()) GTEST_SKIP() << "there is no NVIDIA GPU here";
  const Json config = Json::parse_file(test::golden_model("qwen2") + "/config.json");
  const TensorFiles files = TensorFiles::made_up(config, "made-up");
  const EngineConfig gpu = gpu_config("bf16");
  EngineConfig cpu = gpu;
  cpu.device = "cpu";
  const auto on_cpu = load_model(files), on_gpu = load_model(files, {}, choose_placement(gpu));
  EXPECT_EQ(on_cpu->parameters(), on_gpu->parameters());
  const std::vector<int32_t> ids = {1, 5, 9, 200, 3, 3, 17};
  const std::vector<float> want = DirectRunner(*on_cpu, cpu).logits_of(ids);
  const std::vector<float> got = DirectRunner(*on_gpu, gpu).logits_of(ids);
  EXPECT_LE(test::mean_kl(want, got, want.size() / ids.size()), 1e-4);
}

TEST(GpuMemory, WhatDoesNotFitIsRefusedInNumbersBeforeLoading) {
  if (!have_gpu()) GTEST_SKIP() << "there is no NVIDIA GPU here";
  EngineConfig config = gpu_config("bf16");
  config.kv_bytes = int64_t{1} << 50;
  const TensorFiles files = TensorFiles::open(test::golden_model("llama"));
  try {
    require_room(files, config, choose_placement(config));
    FAIL() << "a petabyte was found";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("of the GPU's memory are free"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace llamita
