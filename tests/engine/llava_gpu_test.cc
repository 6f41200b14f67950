// LLaVA on a GPU: logits of transformers as far as the type allows, and a checkpoint that really sees.
#include <gtest/gtest.h>

#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "hw/cuda/device_properties.h"
#include "models/model.h"
#include "support/distributions.h"
#include "support/golden_llava.h"

namespace llamita {
namespace {

class GpuLlava : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
  }
};

TEST_P(GpuLlava, LogitsAreThoseOfTransformersAsFarAsTheTypeAllows) {
  const std::string path = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/" + GetParam();
  for (const auto& [dtype, limit] : {std::pair{"bf16", 1e-3}, std::pair{"f16", 1e-4}}) {
    EngineConfig config;
    config.device = "cuda";
    config.gpu_dtype = dtype;
    config.threads = 1;
    config.context = 512;
    const auto model = load_model(path, {}, choose_placement(config));
    const VisionConfig& vision = *model->config().vision;
    const auto vocab = static_cast<size_t>(model->config().vocab);
    for (const int prompt : {0, 1}) {
      const test::LlavaGolden golden =
          test::read_llava_golden(GetParam(), prompt, vision.image_token, vision.image_rows());
      if (golden.images.empty()) continue;  // tiny-llava keeps the pixels of its first prompt
      DirectRunner runner(*model, config);
      std::vector<float> logits = runner.logits_of(golden.tokens, golden.images);
      logits.erase(logits.begin(),
                   logits.end() - static_cast<std::ptrdiff_t>(golden.logits.size()));  // the last tokens
      EXPECT_LE(test::mean_kl(golden.logits, logits, vocab), limit) << dtype << ", prompt " << prompt;
      EXPECT_EQ(test::clear_choices_missed(golden.logits, logits, vocab, 0.5f), 0) << dtype;
    }
  }
}

// Counts the images that are encoded.
class CountingModel : public Model {
 public:
  explicit CountingModel(const Model& model) : Model(model.config()), model_(model) {
    parameters_ = model.parameters();
    weight_bytes_ = model.weight_bytes();
    embedding_bytes_ = model.embedding_bytes();
    placement_ = model.placement();
  }
  Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const override {
    return model_.forward(batch, kv, context);
  }
  void encode_images(const Tensor& pixels, const ForwardBatch& batch, const Tensor& rows,
                     Context& context) const override {
    if (pixels.data() != nullptr) encoded += pixels.dim(0);  // no dry run
    model_.encode_images(pixels, batch, rows, context);
  }
  mutable int64_t encoded = 0;

 private:
  const Model& model_;
};

// More than are kept, over many steps.
TEST(GpuLlavaRunner, WhatIsMeasuredEncodesEachImageOnce) {
  if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
  EngineConfig config;
  config.device = "cuda";
  config.threads = 1;
  config.context = 128;
  config.batch_tokens = 256;
  const auto model =
      load_model(std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/tiny-llava", {}, choose_placement(config));
  const CountingModel counting(*model);
  DirectRunner(counting, config).see(4, 40, 1);
  EXPECT_EQ(counting.encoded, 40);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GpuLlava,
                         testing::Values("llava/old-names", "llava/new-names", "tiny-llava"),
                         [](const auto& checkpoint) {
                           std::string out = checkpoint.param;
                           for (char& c : out) c = c == '-' || c == '/' ? '_' : c;
                           return out;
                         });

}  // namespace
}  // namespace llamita
