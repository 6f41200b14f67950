// ModelConfig: a model's shape and switches, the same whether they came from config.json or from GGUF keys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ops/activation/activation.h"
#include "ops/norm/norm.h"

namespace llamita {

enum class RopeScaling { none, linear, dynamic, llama3, yarn };

struct RopeConfig {
  bool enabled = true;
  double theta = 10000.0;
  int rotary_dim = 0;  // elements of a head that rotate
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int original_positions = 0;                            // llama3, yarn, dynamic
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  double extrapolation = 1.0;  // yarn: how far quickly turning dimensions keep their frequency; 0: not at all
  double attention_factor = 0.0;              // yarn; 0: derived from factor
  double attention_multiplier = 1.0;          // of the factor above or, without yarn, of 1 (GGUF)
  bool truncate = true;                       // yarn: whole-number correction range
  double mscale = 0.0, mscale_all_dim = 0.0;  // yarn; 0: absent
  std::vector<float> freq_factors;            // rotary_dim / 2 divisors of the frequencies, or empty (GGUF)
};

// A vision tower and how its states become rows in the place of tokens.
struct VisionConfig {
  int layers = 0;      // that run: those behind the wanted state are not loaded
  int all_layers = 0;  // that files have
  int hidden = 0;      // C of the tower
  int heads = 0;
  int ffn = 0;
  int image_size = 0;  // S
  int patch = 0;
  float norm_eps = 1e-5f;
  Activation activation = Activation::quick_gelu;
  bool drops_class_token = true;  // before the projector
  Activation projector_activation = Activation::gelu;
  bool projector_bias = true;
  int32_t image_token = -1;  // whose places in a prompt an image's rows take

  int patches() const { return (image_size / patch) * (image_size / patch); }
  int tokens() const { return 1 + patches(); }  // of the tower, class token first
  int image_rows() const { return tokens() - (drops_class_token ? 1 : 0); }  // that an image becomes
};

struct ModelConfig {
  std::string family;  // registry key: "llama", "mistral", "qwen2", "qwen3", "gpt2", "llava"
  std::string name;    // for people
  int layers = 0;
  int hidden = 0;    // C
  int heads = 0;     // H
  int kv_heads = 0;  // Hkv
  int head_dim = 0;  // D
  int ffn = 0;       // F
  int vocab = 0;     // V, rows of the embedding and the head
  int max_positions = 0;
  NormKind norm_kind = NormKind::rms;
  float norm_eps = 1e-5f;
  Activation activation = Activation::silu;
  bool gated_mlp = true;
  bool qkv_bias = false;
  bool out_bias = false;  // of attention's output projection
  bool mlp_bias = false;
  bool qk_norm = false;
  bool tied_head = false;              // the head is the embedding table
  bool learned_positions = false;      // GPT-2
  int sliding_window = 0;              // keys a token sees including itself; 0: all
  std::vector<bool> layer_is_sliding;  // per layer; empty: all layers alike
  RopeConfig rope;
  std::optional<VisionConfig> vision;  // of models that take images
  int32_t bos = -1;
  std::vector<int32_t> eos;  // from config and generation_config, may be empty
};

}  // namespace llamita
