#include "cli/shapes.h"

#include <cstdint>
#include <string_view>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

struct Shape {
  std::string_view name, architecture, model_type;
  int64_t hidden, layers, heads, kv_heads, ffn, vocab, positions;
  double theta, norm_eps;
  bool tied;
  double llama3_factor;  // of rope scaling; 0: none
};

constexpr std::string_view kLlama = "LlamaForCausalLM", kQwen2 = "Qwen2ForCausalLM";

// As the models' authors publish them.
constexpr Shape kShapes[] = {
    {"llama-3.2-1b", kLlama, "llama", 2048, 16, 32, 8, 8192, 128256, 131072, 500000, 1e-5, true, 32},
    {"llama-3.2-3b", kLlama, "llama", 3072, 28, 24, 8, 8192, 128256, 131072, 500000, 1e-5, true, 32},
    {"llama-3.1-8b", kLlama, "llama", 4096, 32, 32, 8, 14336, 128256, 131072, 500000, 1e-5, false, 8},
    {"llama-2-7b", kLlama, "llama", 4096, 32, 32, 32, 11008, 32000, 4096, 10000, 1e-5, false, 0},
    {"qwen2.5-3b", kQwen2, "qwen2", 2048, 36, 16, 2, 11008, 151936, 32768, 1000000, 1e-6, true, 0},
    {"qwen2.5-7b", kQwen2, "qwen2", 3584, 28, 28, 4, 18944, 152064, 32768, 1000000, 1e-6, false, 0},
};

// LLaVA-1.5-7B: Vicuna's shape with 64 more rows of vocabulary, and CLIP ViT-L/14 at 336 pixels.
constexpr const char* kLlavaName = "llava-1.5-7b";
constexpr const char* kLlavaConfig = R"({
  "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "image_token_index": 32000,
  "text_config": {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 32064,
    "max_position_embeddings": 4096, "rope_theta": 10000.0, "rms_norm_eps": 1e-05},
  "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "num_hidden_layers": 24,
    "num_attention_heads": 16, "intermediate_size": 4096, "image_size": 336, "patch_size": 14},
  "vision_feature_layer": -2, "vision_feature_select_strategy": "default"})";

Json rope_scaling(double factor) {
  return Json(Json::Object{{"rope_type", Json(std::string("llama3"))},
                           {"factor", Json(factor)},
                           {"low_freq_factor", Json(1.0)},
                           {"high_freq_factor", Json(4.0)},
                           {"original_max_position_embeddings", Json(int64_t{8192})}});
}

}  // namespace

std::string shape_names() {
  std::string names;
  for (const Shape& shape : kShapes) names += cat(shape.name, ", ");
  return names + kLlavaName;
}

Json config_of_shape(const std::string& name) {
  if (name == kLlavaName) return Json::parse(kLlavaConfig, kLlavaName);
  for (const Shape& shape : kShapes) {
    if (shape.name != name) continue;
    Json::Object config{{"architectures", Json(Json::Array{Json(std::string(shape.architecture))})},
                        {"model_type", Json(std::string(shape.model_type))},
                        {"hidden_size", Json(shape.hidden)},
                        {"num_hidden_layers", Json(shape.layers)},
                        {"num_attention_heads", Json(shape.heads)},
                        {"num_key_value_heads", Json(shape.kv_heads)},
                        {"intermediate_size", Json(shape.ffn)},
                        {"vocab_size", Json(shape.vocab)},
                        {"max_position_embeddings", Json(shape.positions)},
                        {"rope_theta", Json(shape.theta)},
                        {"rms_norm_eps", Json(shape.norm_eps)},
                        {"hidden_act", Json(std::string("silu"))},
                        {"torch_dtype", Json(std::string("bfloat16"))},
                        {"tie_word_embeddings", Json(shape.tied)}};
    if (shape.llama3_factor > 0) config.push_back({"rope_scaling", rope_scaling(shape.llama3_factor)});
    return Json(std::move(config));
  }
  throw Error(cat("--shape: there is no shape '", name, "'; there are ", shape_names()));
}

}  // namespace llamita::cli
