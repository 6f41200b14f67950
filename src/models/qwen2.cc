// Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on Q, K and V, small sizes with a tied head.
#include "models/families.h"
#include "models/qwen_window.h"
#include "weights/gguf_config.h"

namespace llamita {

namespace {

constexpr std::string_view kArchitectures[] = {"Qwen2ForCausalLM"};
constexpr std::string_view kGguf[] = {"qwen2"};

ModelConfig from_config(const ConfigReader& config) {
  ModelConfig model = read_llama_like_config(config);
  model.qkv_bias = true;
  read_qwen_window(config, model);
  return model;
}

ModelConfig from_gguf(const TensorFiles& files) {
  ModelConfig model = read_gguf_config(files);
  model.qkv_bias = true;
  return model;
}

}  // namespace

const Family kQwen2{"qwen2", kArchitectures, kGguf, from_config, from_gguf, build_decoder};

}  // namespace llamita
