// Llama 1 to 3.x (Touvron et al. 2023, Grattafiori et al. 2024) and what copies its shape, SmolLM2 among
// them.
#include "models/families.h"
#include "weights/gguf_config.h"

namespace llamita {

namespace {

constexpr std::string_view kArchitectures[] = {"LlamaForCausalLM"};
constexpr std::string_view kGguf[] = {"llama"};

ModelConfig from_config(const ConfigReader& config) {
  ModelConfig model = read_llama_like_config(config);
  model.qkv_bias = model.out_bias = config.get_bool("attention_bias", false);
  model.mlp_bias = config.get_bool("mlp_bias", false);
  return model;
}

ModelConfig from_gguf(const TensorFiles& files) {
  ModelConfig model = read_gguf_config(files);
  if (files.gguf().get_int("llama.expert_count").value_or(0) > 0) {
    throw Error(cat(files.path(), ": mixtures of experts are not supported"));
  }
  model.qkv_bias = files.find("model.layers.0.self_attn.q_proj.bias") != nullptr;
  model.out_bias = files.find("model.layers.0.self_attn.o_proj.bias") != nullptr;
  model.mlp_bias = files.find("model.layers.0.mlp.down_proj.bias") != nullptr;
  return model;
}

}  // namespace

const Family kLlama{"llama", kArchitectures, kGguf, from_config, from_gguf, build_decoder};

}  // namespace llamita
