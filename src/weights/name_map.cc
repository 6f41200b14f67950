#include "weights/name_map.h"

#include <utility>

#include "base/cat.h"

namespace llamita {

namespace {

struct Rename {
  std::string_view from, to;
};

constexpr Rename kWhole[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"transformer.wte", "token_embd"},
    {"transformer.wpe", "position_embd"},
    {"transformer.ln_f", "output_norm"},
};

// Below "model.layers.N." or "transformer.h.N."; in GGUF below "blk.N.".
constexpr Rename kLayer[] = {
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"ln_1", "attn_norm"},
    {"ln_2", "ffn_norm"},
    {"attn.c_attn", "attn_qkv"},
    {"attn.c_proj", "attn_output"},
    {"mlp.c_fc", "ffn_up"},
    {"mlp.c_proj", "ffn_down"},
};

// The first that fits is taken.
constexpr Rename kLlava[] = {
    {"language_model.model.", "model."},
    {"language_model.lm_head.", "lm_head."},
    {"model.language_model.", "model."},
    {"model.vision_tower.vision_model.", "vision_tower."},
    {"model.vision_tower.", "vision_tower."},
    {"vision_tower.vision_model.", "vision_tower."},
    {"model.multi_modal_projector.", "multi_modal_projector."},
};

}  // namespace

std::string llava_name(std::string_view name) {
  for (const auto& [from, to] : kLlava) {
    if (name.starts_with(from)) return cat(to, name.substr(from.size()));
  }
  return std::string(name);
}

std::string gguf_name(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::string(name);
  const std::string_view stem = name.substr(0, dot);
  const std::string_view suffix = name.substr(dot);  // ".weight", ".bias"
  for (const auto& [from, to] : kWhole) {
    if (stem == from) return cat(to, suffix);
  }
  for (const std::string_view prefix :
       {std::string_view("model.layers."), std::string_view("transformer.h.")}) {
    if (!stem.starts_with(prefix)) continue;
    const std::string_view rest = stem.substr(prefix.size());
    const size_t end = rest.find('.');
    if (end == std::string_view::npos) break;
    for (const auto& [from, to] : kLayer) {
      if (rest.substr(end + 1) == from) return cat("blk.", rest.substr(0, end), ".", to, suffix);
    }
  }
  return std::string(name);
}

}  // namespace llamita
