// Qwen3 (Yang et al. 2025): Llama with an RMSNorm over each query and key head, and a head size of its own.
#include "models/families.h"
#include "models/qwen_window.h"
#include "weights/gguf_config.h"

namespace llamita {

namespace {

constexpr std::string_view kArchitectures[] = {"Qwen3ForCausalLM"};
constexpr std::string_view kGguf[] = {"qwen3"};

ModelConfig from_config(const ConfigReader& config) {
  ModelConfig model = read_llama_like_config(config);
  model.qkv_bias = model.out_bias = config.get_bool("attention_bias", false);
  model.qk_norm = true;
  read_qwen_window(config, model);
  return model;
}

ModelConfig from_gguf(const TensorFiles& files) {
  ModelConfig model = read_gguf_config(files);
  model.qk_norm = true;
  return model;
}

}  // namespace

const Family kQwen3{"qwen3", kArchitectures, kGguf, from_config, from_gguf, build_decoder};

}  // namespace llamita
