// LLaVA against transformers in fp32 on tiny random checkpoints, named as old and as new versions write them:
// the tower's states, the projector's rows, the logits of prompts with one and with two images.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "formats/json.h"
#include "formats/safetensors.h"
#include "llamita/error.h"
#include "models/clip.h"
#include "nn/vision_batch.h"
#include "support/expect_error.h"
#include "support/model_steps.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

using test::ModelSteps;

std::string folder_of(const std::string& name) {
  return std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/llava/" + name;
}

struct Golden {
  std::vector<int32_t> ids;
  std::vector<float> pixels, tower, projected, logits;
  int images = 0;
};

Golden read_golden(const std::string& name, int prompt) {
  Golden golden;
  for (const auto& tensor : safetensors::open_file(folder_of(name) + "/golden.safetensors")) {
    const size_t dot = tensor.name.rfind('.'), n = tensor.data.size() / 4;
    if (tensor.name.substr(dot + 1) != std::to_string(prompt)) continue;
    const std::string what = tensor.name.substr(0, dot);
    if (what == "ids") {
      golden.ids.resize(n);
      std::memcpy(golden.ids.data(), tensor.data.data(), n * 4);
      continue;
    }
    if (what == "pixel_values") golden.images = static_cast<int>(tensor.shape[0]);
    std::vector<float>& to = what == "pixel_values" ? golden.pixels
                             : what == "tower"      ? golden.tower
                             : what == "projected"  ? golden.projected
                                                    : golden.logits;
    to.resize(n);
    std::memcpy(to.data(), tensor.data.data(), n * 4);
  }
  return golden;
}

double nmse(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  double error = 0, power = 0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    error += std::pow(static_cast<double>(got[i]) - static_cast<double>(want[i]), 2);
    power += std::pow(static_cast<double>(want[i]), 2);
  }
  return error / power;
}

// Runs `work` once dry, for the arena, and once with it.
template <class Work>
void with_arena(const Work& work, int threads = 1) {
  ThreadPool pool(threads);
  const Caps caps{DeviceKind::cpu, cpu::detect_isa(), pool.threads()};
  Arena measuring;
  Context dry(measuring, caps);
  work(dry);
  Arena arena(measuring.peak());
  Context context(pool, arena, caps);
  work(context);
  EXPECT_LE(arena.peak(), measuring.peak());
}

// The images' rows in the place of tokens, class tokens dropped where the model drops them.
std::vector<float> encode(const Model& model, const std::vector<float>& pixels, int images, int threads = 1) {
  const VisionConfig& vision = *model.config().vision;
  const int64_t C = model.config().hidden, S = vision.image_size;
  const VisionBatch batch(vision, images);
  std::vector<float> all(static_cast<size_t>(images * vision.tokens() * C));
  with_arena(
      [&](Context& context) {
        model.encode_images(Tensor::of(pixels.data(), {images, 3, S, S}), batch.on_host(),
                            Tensor::of(all.data(), {images, vision.tokens(), C}), context);
      },
      threads);
  std::vector<float> rows;
  for (int image = 0; image < images; ++image) {
    const auto end = all.begin() + (image + 1) * vision.tokens() * C;
    rows.insert(rows.end(), end - vision.image_rows() * C, end);
  }
  return rows;
}

std::vector<int32_t> with_rows(std::vector<int32_t> ids, int32_t image_token) {
  for (int32_t& id : ids) id = id == image_token ? -2 : id;
  return ids;
}

class LlavaGolden : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Model> model_ = load_model(folder_of(GetParam()));
};

TEST_P(LlavaGolden, TheTowersStatesAreThoseOfTransformers) {
  const TensorFiles files = TensorFiles::open(folder_of(GetParam()));
  WeightLoader weights(files);
  const VisionConfig vision = *model_->config().vision;
  const ClipTower tower(vision, weights);
  const Golden golden = read_golden(GetParam(), 1);
  const VisionBatch batch(vision, golden.images);
  std::vector<float> states(golden.tower.size());
  with_arena([&](Context& context) {
    const int64_t S = vision.image_size;
    tower.forward(Tensor::of(golden.pixels.data(), {golden.images, 3, S, S}), batch.on_host(),
                  Tensor::of(states.data(), {golden.images * vision.tokens(), vision.hidden}), context);
  });
  EXPECT_LE(nmse(states, golden.tower), 1e-10);
}

TEST_P(LlavaGolden, RowsAndLogitsAreThoseOfTransformers) {
  for (const int prompt : {0, 1}) {
    const Golden golden = read_golden(GetParam(), prompt);
    const std::vector<float> rows = encode(*model_, golden.pixels, golden.images);
    EXPECT_LE(nmse(rows, golden.projected), 1e-10) << "prompt " << prompt;
    const int64_t C = model_->config().hidden;
    ModelSteps steps(*model_);
    const std::vector<float> logits =
        steps.run({{0, with_rows(golden.ids, model_->config().vision->image_token)}}, nullptr,
                  Tensor::of(rows.data(), {static_cast<int64_t>(rows.size()) / C, C}));
    EXPECT_LE(nmse(logits, golden.logits), 1e-10) << "prompt " << prompt;
    float worst = 0;
    for (size_t i = 0; i < logits.size(); ++i)
      worst = std::max(worst, std::abs(logits[i] - golden.logits[i]));
    EXPECT_LE(worst, 1e-3f) << "prompt " << prompt;
  }
}

TEST_P(LlavaGolden, AnImageGivesTheSameBitsAloneAndInCompany) {
  const Golden golden = read_golden(GetParam(), 1);
  const std::vector<float> both = encode(*model_, golden.pixels, 2);
  std::vector<float> apart;
  for (int image = 0; image < 2; ++image) {
    const auto size = static_cast<int64_t>(golden.pixels.size() / 2);
    const auto begin = golden.pixels.begin() + image * size;
    const std::vector<float> rows = encode(*model_, {begin, begin + size}, 1, 2);
    apart.insert(apart.end(), rows.begin(), rows.end());
  }
  EXPECT_EQ(both, apart);
}

INSTANTIATE_TEST_SUITE_P(Layouts, LlavaGolden, testing::Values("old-names", "new-names"),
                         [](const auto& layout) {
                           std::string out = layout.param;
                           for (char& c : out) c = c == '-' ? '_' : c;
                           return out;
                         });

// The files of a checkpoint with another configuration.
void expect_refused(const std::string& from, const std::string& to, const char* message) {
  const test::TempDir dir;
  std::ifstream in(folder_of("old-names") + "/config.json");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  dir.write("config.json", text.replace(at, from.size(), to));
  std::filesystem::copy(folder_of("old-names") + "/model.safetensors", dir.path() / "model.safetensors");
  EXPECT_ERROR(load_model(dir.path().string()), message);
}

TEST(Llava, AConfigurationThatDoesNotFitIsRefused) {
  expect_refused("\"vision_feature_layer\": -2", "\"vision_feature_layer\": -5", "hidden states");
  expect_refused("\"vision_feature_layer\": -2", "\"vision_feature_layer\": [-2, -1]", "several layers");
  expect_refused("\"clip_vision_model\"", "\"siglip_vision_model\"", "siglip_vision_model");
  expect_refused("\"vision_feature_select_strategy\": \"default\"",
                 "\"vision_feature_select_strategy\": \"cls\"", "expected default or full");
  expect_refused("\"image_size\": 63", "\"image_size\": 64", "no multiple of patch_size");
  expect_refused("\"image_size\": 63", "\"image_size\": 70", "position_embedding");
  expect_refused("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"", "not supported");
  expect_refused("\"vision_config\"", "\"tower_config\"", "vision_config");
  for (const char* eps : {"-1", "0", "1e300", "1e-300", "2"})
    expect_refused("\"layer_norm_eps\": 1e-05", std::string("\"layer_norm_eps\": ") + eps,
                   "layer_norm_eps is");
  expect_refused("\"image_token_index\"", "\"image_token\"", "image_token_index is missing");
  expect_refused("\"image_token_index\": ", "\"image_token_index\": 99", "image_token_index is 99");
}

// The published configuration of LLaVA-1.5-7B leaves most sizes to LlamaConfig's defaults.
TEST(Llava, TheSparseConfigurationOfThePublishedFoldersIsRead) {
  const test::TempDir dir;
  dir.write("config.json", R"({"architectures": ["LlavaForConditionalGeneration"],
    "image_token_index": 32000, "projector_hidden_act": "gelu", "model_type": "llava",
    "text_config": {"_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
      "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-05, "vocab_size": 32064},
    "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
      "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14,
      "projection_dim": 768, "vocab_size": 32000},
    "vision_feature_layer": -2, "vision_feature_select_strategy": "default"})");
  std::filesystem::copy(folder_of("old-names") + "/model.safetensors", dir.path() / "model.safetensors");
  const ModelConfig config = read_model_config(dir.path().string());
  EXPECT_EQ(config.hidden, 4096);
  EXPECT_EQ(config.ffn, 11008);
  EXPECT_EQ(config.layers, 32);
  EXPECT_EQ(config.kv_heads, 32);
  EXPECT_EQ(config.vocab, 32064);
  EXPECT_EQ(config.vision->layers, 23);
  EXPECT_EQ(config.vision->image_rows(), 576);
  EXPECT_EQ(config.vision->image_token, 32000);
}

}  // namespace
}  // namespace llamita
