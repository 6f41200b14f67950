#include "models/decoder.h"

#include <array>

#include "base/cat.h"
#include "nn/norm_relay.h"
#include "ops/decoder_layers/decoder_layers.h"
#include "ops/embedding/embedding.h"

namespace llamita {

Tensor Decoder::forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const {
  const int64_t tokens = batch.token_ids.dim(0);
  const Tensor logits = context.arena().take(DType::f32, {batch.logit_rows.dim(0), config_.vocab});  // (R, V)
  const Arena::Scope scope(context.arena());
  const Tensor x = context.arena().take(DType::f32, {tokens, config_.hidden});  // (T, C), the residual stream

  embedding({.token_ids = batch.token_ids,
             .table = &embedding_,
             .input_rows = batch.input_rows,
             .chosen = batch.chosen,
             .token_source = batch.token_source,
             .out = x},
            context);
  const Tensor cos_sin = rope_.cos_sin(batch.positions, context);  // (T, R)
  run_layers(x, cos_sin, batch, kv, context);
  head_.write(x, batch.logit_rows, logits, context);
  if (batch.hidden_out != nullptr) head_.normalise(x, batch.hidden_out->back(), context);
  return logits;
}

void Decoder::run_layers(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch, const KvCache& kv,
                         Context& context) const {
  const bool is_plain = config_.norm_kind == NormKind::rms && config_.activation == Activation::silu &&
                        !config_.out_bias && !config_.mlp_bias;
  if (is_plain && cos_sin.defined() && batch.hidden_out == nullptr && x.dim(0) == batch.kv_len.dim(0)) {
    std::vector<DecoderLayer> all(layers_.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const auto& [attention, mlp] = layers_[i];
      all[i] = {.attn_norm = attention.norm.values,
                .mlp_norm = mlp.norm.values,
                .qkv = &attention.qkv,
                .qkv_bias = attention.qkv_bias.values,
                .q_norm = attention.q_norm.values,
                .k_norm = attention.k_norm.values,
                .out = &attention.out,
                .gate_up = &mlp.in,
                .down = &mlp.down,
                .k_cache = kv.layers[i].k,
                .v_cache = kv.layers[i].v,
                .window = attention.window};
    }
    const DecoderLayersArgs args{.x = x,
                                 .cos_sin = cos_sin,
                                 .kv_slot = batch.kv_slot,
                                 .q_start = batch.q_start,
                                 .kv_len = batch.kv_len,
                                 .block_table = batch.block_table,
                                 .plan = batch.plan,
                                 .norm_eps = config_.norm_eps,
                                 .heads = config_.heads,
                                 .layers = all};
    if (decoder_layers_fused(args, context)) return decoder_layers(args, context);
  }
  chain_layers(x, cos_sin, batch, kv, context);
}

void Decoder::chain_layers(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch,
                           const KvCache& kv, Context& context) const {
  const Arena::Scope scope(context.arena());
  NormRelay relay(x, cos_sin, batch, kv.layers[0], context);
  for (size_t i = 0; i < layers_.size(); ++i) {
    keep_hidden(x, batch, static_cast<int>(i), context);
    const auto& [attention, mlp] = layers_[i];
    const Attention* next = i + 1 < layers_.size() ? &layers_[i + 1].attention : nullptr;
    attention.add_to(x, cos_sin, batch, kv.layers[i], context, relay.of(attention, mlp));
    mlp.add_to(x, context, relay.of(mlp, next));
  }
}

Decoder::Decoder(ModelConfig config, WeightLoader& weights)
    : Model(std::move(config)), rope_(config_.rope, config_.max_positions, weights) {
  embedding_ = weights.linear({"embedding", "model.embed_tokens.weight", config_.vocab}, config_.hidden);
  embedding_bytes_ = embedding_.bytes();
  layers_.reserve(static_cast<size_t>(config_.layers));
  for (int i = 0; i < config_.layers; ++i)
    layers_.push_back({load_attention(i, weights), load_mlp(i, weights)});
  head_.norm_kind = config_.norm_kind;
  head_.norm_eps = config_.norm_eps;
  head_.norm = weights.vector("model.norm.weight", config_.hidden);
  if (config_.tied_head) {
    head_.weight = embedding_;
    // Some checkpoints store the tied matrix twice.
    weights.skip_duplicate("lm_head.weight", "model.embed_tokens.weight", config_.vocab, config_.hidden);
  } else {
    head_.weight = weights.linear({"head", "lm_head.weight", config_.vocab}, config_.hidden);
  }
}

Attention Decoder::load_attention(int layer, WeightLoader& weights) const {
  const std::string prefix = cat("model.layers.", layer, ".");
  const int64_t q_rows = int64_t{config_.heads} * config_.head_dim;
  const int64_t kv_rows = int64_t{config_.kv_heads} * config_.head_dim;
  const auto parts = [&](const char* suffix) {
    return std::array<PartSpec, 3>{
        {{"q", cat(prefix, "self_attn.q_proj.", suffix), q_rows, config_.head_dim},
         {"k", cat(prefix, "self_attn.k_proj.", suffix), kv_rows, config_.head_dim},
         {"v", cat(prefix, "self_attn.v_proj.", suffix), kv_rows}}};
  };
  Attention out;
  out.heads = config_.heads;
  out.kv_heads = config_.kv_heads;
  out.head_dim = config_.head_dim;
  const bool sliding =
      config_.layer_is_sliding.empty() || config_.layer_is_sliding[static_cast<size_t>(layer)];
  out.window = sliding ? config_.sliding_window : 0;
  out.norm_kind = config_.norm_kind;
  out.norm_eps = config_.norm_eps;
  out.norm = weights.vector(prefix + "input_layernorm.weight", config_.hidden);
  out.qkv = weights.linear(parts("weight"), config_.hidden);
  if (config_.qkv_bias) out.qkv_bias = weights.vector(parts("bias"));
  if (config_.qk_norm) {
    out.q_norm = weights.vector(prefix + "self_attn.q_norm.weight", config_.head_dim);
    out.k_norm = weights.vector(prefix + "self_attn.k_norm.weight", config_.head_dim);
  }
  out.out = weights.linear({"o", prefix + "self_attn.o_proj.weight", config_.hidden}, q_rows);
  if (config_.out_bias) out.out_bias = weights.vector(prefix + "self_attn.o_proj.bias", config_.hidden);
  weights.skip(prefix + "self_attn.rotary_emb.inv_freq");  // a table that old checkpoints carry
  return out;
}

Mlp Decoder::load_mlp(int layer, WeightLoader& weights) const {
  const std::string prefix = cat("model.layers.", layer, ".");
  const auto parts = [&](const char* suffix) {
    return std::array<PartSpec, 2>{{{"gate", cat(prefix, "mlp.gate_proj.", suffix), config_.ffn},
                                    {"up", cat(prefix, "mlp.up_proj.", suffix), config_.ffn}}};
  };
  Mlp out;
  out.ffn = config_.ffn;
  out.activation = config_.activation;
  out.norm_kind = config_.norm_kind;
  out.norm_eps = config_.norm_eps;
  out.norm = weights.vector(prefix + "post_attention_layernorm.weight", config_.hidden);
  out.in = weights.linear(parts("weight"), config_.hidden);
  out.down = weights.linear({"down", prefix + "mlp.down_proj.weight", config_.hidden}, config_.ffn);
  if (config_.mlp_bias) {
    out.in_bias = weights.vector(parts("bias"));
    out.down_bias = weights.vector(prefix + "mlp.down_proj.bias", config_.hidden);
  }
  return out;
}

}  // namespace llamita
