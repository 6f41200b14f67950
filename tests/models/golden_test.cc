// Every family against transformers in fp32 on the same tiny checkpoint, and against itself: the same bits
// whether a prompt comes whole, in chunks, token by token, alone or in company.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/forced_kernels.h"
#include "support/golden_model.h"
#include "support/model_steps.h"

namespace llamita {
namespace {

using test::Golden;
using test::ModelSteps;

double nmse(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, power = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    error += difference * difference;
    power += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return error / power;
}

float max_difference(const std::vector<float>& got, const std::vector<float>& want) {
  float worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const float difference = std::abs(got[i] - want[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
  }
  return worst;
}

class GoldenModels : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Model> model_ = load_model(test::golden_model(GetParam()));
};

TEST_P(GoldenModels, HiddenStatesAndLogitsAreThoseOfTransformers) {
  for (const int prompt : {0, 1}) {
    const Golden golden = test::read_golden(GetParam(), prompt);
    ModelSteps steps(*model_);
    std::vector<std::vector<float>> hidden;
    const std::vector<float> logits = steps.run({{0, golden.ids}}, &hidden);
    ASSERT_EQ(hidden.size(), golden.hidden.size());
    for (size_t layer = 0; layer < hidden.size(); ++layer) {
      ASSERT_EQ(hidden[layer].size(), golden.hidden[layer].size());
      EXPECT_LE(nmse(hidden[layer], golden.hidden[layer]), 1e-10)
          << "after layer " << layer << ", prompt " << prompt;
    }
    ASSERT_EQ(logits.size(), golden.logits.size());
    EXPECT_LE(nmse(logits, golden.logits), 1e-10);
    EXPECT_LE(max_difference(logits, golden.logits), 1e-3f);
  }
}

// The references share the norm between two blocks (ops/norm/prepared_norm.h): what is left are the first
// layer's, the head's, those of q and k heads, and all that are no RMS norms.
TEST_P(GoldenModels, NormsThatBlocksShareGiveTheLogitsOfTransformers) {
  const test::ForcedKernels forced("linear=reference");
  const ModelConfig& config = model_->config();
  const Golden golden = test::read_golden(GetParam(), 0);
  ModelSteps steps(*model_);
  const std::vector<float> logits = steps.run({{0, golden.ids}});
  EXPECT_LE(nmse(logits, golden.logits), 1e-10);
  const auto norms = std::count_if(steps.ops.begin(), steps.ops.end(),
                                   [](const OpRecord& record) { return record.op == "norm"; });
  const int of_heads = config.qk_norm ? config.layers * (config.heads + config.kv_heads) : 0;
  EXPECT_EQ(norms, config.norm_kind == NormKind::rms ? 2 + of_heads : 2 * config.layers + 1);
  EXPECT_EQ(steps.used_bytes, steps.planned_bytes);
}

TEST_P(GoldenModels, APromptInChunksOrTokenByTokenGivesTheSameBits) {
  const Golden golden = test::read_golden(GetParam(), 0);
  const std::vector<float> whole = ModelSteps(*model_).run({{0, golden.ids}});
  for (const size_t chunk : {size_t{1}, size_t{5}, size_t{17}, size_t{47}}) {
    ModelSteps steps(*model_);
    std::vector<float> joined;
    for (size_t at = 0; at < golden.ids.size(); at += chunk) {
      const auto end = std::min(at + chunk, golden.ids.size());
      const std::vector<float> part = steps.run({{0,
                                                  {golden.ids.begin() + static_cast<int64_t>(at),
                                                   golden.ids.begin() + static_cast<int64_t>(end)}}});
      joined.insert(joined.end(), part.begin(), part.end());
    }
    ASSERT_EQ(joined, whole) << "in chunks of " << chunk;
  }
}

TEST_P(GoldenModels, ASequenceInCompanyGivesTheSameBitsAsAlone) {
  const Golden first = test::read_golden(GetParam(), 0), second = test::read_golden(GetParam(), 1);
  const auto row = static_cast<int64_t>(model_->config().vocab);
  for (const DType kv : {DType::f16, DType::bf16, DType::f32, DType::i8}) {
    const std::vector<float> alone = ModelSteps(*model_, kv).run({{0, second.ids}});
    for (const int threads : {1, 2}) {
      ModelSteps steps(*model_, kv, threads);
      // A prefill beside another's, then decode beside a prefill.
      const std::vector<int32_t> head(second.ids.begin(), second.ids.end() - 1);
      std::vector<float> batch = steps.run({{0, first.ids}, {1, head}, {2, second.ids}});
      std::vector<float> got(batch.begin() + row * static_cast<int64_t>(first.ids.size()),
                             batch.begin() + row * static_cast<int64_t>(first.ids.size() + head.size()));
      batch = steps.run({{3, first.ids}, {1, {second.ids.back()}}, {0, {5}}});
      got.insert(got.end(), batch.begin() + row * static_cast<int64_t>(first.ids.size()),
                 batch.begin() + row * static_cast<int64_t>(first.ids.size() + 1));
      ASSERT_EQ(got, alone) << name(kv) << ", " << threads << " threads";
    }
  }
}

TEST_P(GoldenModels, TheDryRunFindsTheExactSizeOfTheArena) {
  ModelSteps steps(*model_);
  steps.run({{0, test::read_golden(GetParam(), 0).ids}, {1, {1, 2, 3}}});
  EXPECT_EQ(steps.used_bytes, steps.planned_bytes);
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenModels, testing::ValuesIn(test::kGoldenModels),
                         [](const auto& family) {
                           std::string out = family.param;
                           for (char& c : out) c = c == '-' ? '_' : c;
                           return out;
                         });

// A GGUF file against the golden logits of the safetensors checkpoint it was made from.
struct GgufTwin {
  const char* file;
  const char* twin;
  double nmse;  // 1e-10 where the format is lossless
};

class GgufModels : public testing::TestWithParam<GgufTwin> {};

TEST_P(GgufModels, GiveTheLogitsOfTheirSafetensorsTwin) {
  const auto model = load_model(std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/gguf/" + GetParam().file);
  const Golden golden = test::read_golden(GetParam().twin, 0);
  const std::vector<float> logits = ModelSteps(*model).run({{0, golden.ids}});
  ASSERT_EQ(logits.size(), golden.logits.size());
  EXPECT_LE(nmse(logits, golden.logits), GetParam().nmse);
}

// Eight-bit blocks keep about 1/256 of a block's largest value, so errors of 1e-4 of the power; four-bit ones
// 1/16.
INSTANTIATE_TEST_SUITE_P(
    Files, GgufModels,
    testing::Values(GgufTwin{"llama-f32.gguf", "llama", 1e-10},
                    GgufTwin{"llama-tied-bias-f16.gguf", "llama-tied-bias", 1e-10},
                    GgufTwin{"llama-llama3-bf16-00001-of-00003.gguf", "llama-llama3", 1e-10},
                    GgufTwin{"llama-linear-bf16.gguf", "llama-linear", 1e-10},
                    GgufTwin{"llama-yarn-bf16.gguf", "llama-yarn", 1e-10},
                    GgufTwin{"qwen2-bf16.gguf", "qwen2", 1e-10}, GgufTwin{"qwen3-bf16.gguf", "qwen3", 1e-10},
                    GgufTwin{"gpt2-f32.gguf", "gpt2", 1e-10}, GgufTwin{"llama-q8_0.gguf", "llama", 1e-3},
                    GgufTwin{"llama-q4_1.gguf", "llama", 1e-1}),
    [](const auto& twin) {
      const std::string file = twin.param.file;
      std::string out = file.substr(0, file.find('.'));
      for (char& c : out) c = c == '-' ? '_' : c;
      return out;
    });

}  // namespace
}  // namespace llamita
