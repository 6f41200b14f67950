// LLaVA-1.5 (Liu et al. 2023): CLIP's tower sees, a projector of two layers turns its states into rows as the
// language model's embedding has them, and those stand in the places of an image's tokens.
#include "base/cat.h"
#include "models/clip.h"
#include "models/decoder.h"
#include "models/families.h"
#include "ops/activation/activation.h"
#include "ops/linear/linear.h"
#include "weights/limits.h"

namespace llamita {

namespace {

constexpr std::string_view kArchitectures[] = {"LlavaForConditionalGeneration"};

struct Projector {
  quant::Weight in, out;  // (C, C of the tower), (C, C)
  Vector in_bias, out_bias;
  Activation activation = Activation::gelu;

  void write(const Tensor& states, const Tensor& rows, Context& context) const {
    const Arena::Scope scope(context.arena());
    const Tensor hidden = context.arena().take(context.caps().activation, {states.dim(0), in.rows()});
    linear({.x = states, .weight = &in, .bias = in_bias.values, .residual = {}, .out = hidden}, context);
    llamita::activation({.kind = activation, .gate = hidden, .up = {}, .out = hidden}, context);
    linear({.x = hidden, .weight = &out, .bias = out_bias.values, .residual = {}, .out = rows}, context);
  }
};

class Llava : public Model {
 public:
  Llava(ModelConfig config, WeightLoader& weights);

  Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const override {
    return language_.forward(batch, kv, context);
  }

  void encode_images(const Tensor& pixels, const ForwardBatch& batch, const Tensor& rows,
                     Context& context) const override {
    const Arena::Scope scope(context.arena());
    const int64_t tokens = rows.dim(0) * rows.dim(1);
    const Tensor states = context.arena().take(DType::f32, {tokens, config_.vision->hidden});
    tower_.forward(pixels, batch, states, context);
    projector_.write(states, rows.view({tokens, rows.dim(2)}), context);
  }

 private:
  Decoder language_;
  ClipTower tower_;
  Projector projector_;
};

Llava::Llava(ModelConfig config, WeightLoader& weights)
    : Model(std::move(config)), language_(config_, weights), tower_(*config_.vision, weights) {
  embedding_bytes_ = language_.embedding_bytes();
  const int64_t C = config_.hidden;
  projector_.activation = config_.vision->projector_activation;
  projector_.in =
      weights.linear({"projector in", "multi_modal_projector.linear_1.weight", C}, config_.vision->hidden);
  projector_.out = weights.linear({"projector out", "multi_modal_projector.linear_2.weight", C}, C);
  if (!config_.vision->projector_bias) return;
  projector_.in_bias = weights.vector("multi_modal_projector.linear_1.bias", C);
  projector_.out_bias = weights.vector("multi_modal_projector.linear_2.bias", C);
}

// What transformers' LlamaConfig and the classes beside it have where the published files say nothing.
Json text_defaults() {
  return Json::parse(R"({"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "max_position_embeddings": 2048, "vocab_size": 32000, "rms_norm_eps": 1e-6})",
                     "LlamaConfig");
}

const Family& language_family(const ConfigReader& text) {
  const std::string type = text.get_string("model_type", "llama");
  for (const Family* family : families()) {
    if (family->name == type && family->build == build_decoder) return *family;
  }
  text.fail(cat("a language model of type ", type, " is not supported"));
}

constexpr int kDefaultImageToken = 32000;  // LlavaConfig's

int read_select(const ConfigReader& config) {
  const Json* layer = config.find("vision_feature_layer");
  if (layer == nullptr) return -2;
  if (layer->is_array()) config.fail("vision_feature_layer: states of several layers are not supported");
  return config.get_int("vision_feature_layer", -limits::kLayers, limits::kLayers);
}

ModelConfig from_config(const ConfigReader& config) {
  const auto section = [&](const char* key) -> const Json& {
    const Json* found = config.find(key);
    if (found == nullptr || !found->is_object()) config.fail(cat("the object ", key, " is missing"));
    return *found;
  };
  const std::string text_name = config.what("text_config");
  const Json text_json = with_defaults(section("text_config"), text_defaults(), text_name);
  const ConfigReader text(text_json, text_name);
  ModelConfig model = language_family(text).from_config(text);
  model.tied_head = model.tied_head || config.get_bool("tie_word_embeddings", false);

  const ConfigReader tower(section("vision_config"), config.what("vision_config"));
  const std::string tower_type = tower.get_string("model_type", "clip_vision_model");
  if (tower_type != "clip_vision_model") {
    tower.fail(cat("a vision tower of type ", tower_type, " is not supported, expected clip_vision_model"));
  }
  VisionConfig vision = read_clip_config(tower, read_select(config));
  const std::string strategy = config.get_string("vision_feature_select_strategy", "default");
  if (strategy != "default" && strategy != "full") {
    config.fail(cat("vision_feature_select_strategy is ", strategy, ", expected default or full"));
  }
  vision.drops_class_token = strategy == "default";
  vision.projector_activation = activation_by_name(config.get_string("projector_hidden_act", "gelu"), config);
  vision.projector_bias = config.get_bool("multimodal_projector_bias", true);
  const bool by_id = config.find("image_token_id") != nullptr && config.find("image_token_index") == nullptr;
  const char* token_key = by_id ? "image_token_id" : "image_token_index";
  vision.image_token = config.find(token_key) != nullptr || model.vocab <= kDefaultImageToken
                           ? config.get_int(token_key, 0, model.vocab - 1)
                           : kDefaultImageToken;
  model.vision = vision;
  return model;
}

ModelConfig from_gguf(const TensorFiles& files) {
  throw Error(cat(files.path(), ": LLaVA is read from model folders, not from GGUF files"));
}

std::unique_ptr<Model> build(ModelConfig config, WeightLoader& weights) {
  return std::make_unique<Llava>(std::move(config), weights);
}

}  // namespace

const Family kLlava{"llava", kArchitectures, {}, from_config, from_gguf, build};

}  // namespace llamita
