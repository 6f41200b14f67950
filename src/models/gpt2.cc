// GPT-2 (Radford et al. 2019): learned positions, LayerNorm with bias, one fused QKV matrix, an ungated GELU
// feed-forward, biases everywhere, a tied head. Its checkpoints store matrices transposed.
#include "base/cat.h"
#include "models/families.h"
#include "nn/attention.h"
#include "nn/head.h"
#include "nn/mlp.h"
#include "ops/embedding/embedding.h"
#include "weights/gguf_config.h"
#include "weights/limits.h"

namespace llamita {

namespace {

constexpr std::string_view kArchitectures[] = {"GPT2LMHeadModel"};
constexpr std::string_view kGguf[] = {"gpt2"};

class Gpt2 : public Model {
 public:
  Gpt2(ModelConfig config, WeightLoader& weights);

  Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const override;

 private:
  struct Layer {
    Attention attention;
    Mlp mlp;
  };

  Layer load_layer(int index, WeightLoader& weights) const;

  quant::Weight embedding_, positions_;  // (V, C), (max positions, C)
  std::vector<Layer> layers_;
  Head head_;
};

Tensor Gpt2::forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const {
  const int64_t tokens = batch.token_ids.dim(0);
  const Tensor logits = context.arena().take(DType::f32, {batch.logit_rows.dim(0), config_.vocab});  // (R, V)
  const Arena::Scope scope(context.arena());
  const Tensor x = context.arena().take(DType::f32, {tokens, config_.hidden});  // (T, C), the residual stream

  embedding({.token_ids = batch.token_ids,
             .table = &embedding_,
             .input_rows = batch.input_rows,
             .positions = batch.positions.view({tokens}),
             .position_table = &positions_,
             .chosen = batch.chosen,
             .token_source = batch.token_source,
             .out = x},
            context);
  for (size_t i = 0; i < layers_.size(); ++i) {
    keep_hidden(x, batch, static_cast<int>(i), context);
    layers_[i].attention.add_to(x, {}, batch, kv.layers[i], context);
    layers_[i].mlp.add_to(x, context);
  }
  head_.write(x, batch.logit_rows, logits, context);
  if (batch.hidden_out != nullptr) head_.normalise(x, batch.hidden_out->back(), context);
  return logits;
}

Gpt2::Gpt2(ModelConfig config, WeightLoader& weights) : Model(std::move(config)) {
  embedding_ = weights.linear({"embedding", "transformer.wte.weight", config_.vocab}, config_.hidden);
  embedding_bytes_ = embedding_.bytes();
  positions_ = weights.linear({"positions", "transformer.wpe.weight", config_.max_positions}, config_.hidden);
  for (int i = 0; i < config_.layers; ++i) layers_.push_back(load_layer(i, weights));
  head_.norm_kind = NormKind::layer;
  head_.norm_eps = config_.norm_eps;
  head_.norm = weights.vector("transformer.ln_f.weight", config_.hidden);
  head_.norm_bias = weights.vector("transformer.ln_f.bias", config_.hidden);
  if (config_.tied_head) {
    head_.weight = embedding_;
    weights.skip_duplicate("lm_head.weight", "transformer.wte.weight", config_.vocab, config_.hidden);
  } else {
    head_.weight = weights.linear({"head", "lm_head.weight", config_.vocab}, config_.hidden);
  }
}

Gpt2::Layer Gpt2::load_layer(int index, WeightLoader& weights) const {
  const std::string prefix = cat("transformer.h.", index, ".");
  // GGUF conversion has turned the matrices the usual way round.
  const Orientation stored = weights.files().is_gguf() ? Orientation::out_in : Orientation::in_out;
  const int64_t hidden = config_.hidden, ffn = config_.ffn;
  const auto matrix = [&](const char* label, const char* name, int64_t rows, int64_t cols) {
    return weights.linear({label, cat(prefix, name, ".weight"), rows}, cols, stored);
  };
  const auto vector = [&](const char* name, int64_t n) { return weights.vector(cat(prefix, name), n); };

  Attention attention;
  attention.heads = attention.kv_heads = config_.heads;
  attention.head_dim = config_.head_dim;
  attention.norm_kind = NormKind::layer;
  attention.norm_eps = config_.norm_eps;
  attention.norm = vector("ln_1.weight", hidden);
  attention.norm_bias = vector("ln_1.bias", hidden);
  attention.qkv = matrix("qkv", "attn.c_attn", 3 * hidden, hidden);
  attention.qkv_bias = vector("attn.c_attn.bias", 3 * hidden);
  attention.out = matrix("o", "attn.c_proj", hidden, hidden);
  attention.out_bias = vector("attn.c_proj.bias", hidden);

  Mlp mlp;
  mlp.ffn = config_.ffn;
  mlp.gated = false;
  mlp.activation = config_.activation;
  mlp.norm_kind = NormKind::layer;
  mlp.norm_eps = config_.norm_eps;
  mlp.norm = vector("ln_2.weight", hidden);
  mlp.norm_bias = vector("ln_2.bias", hidden);
  mlp.in = matrix("up", "mlp.c_fc", ffn, hidden);
  mlp.in_bias = vector("mlp.c_fc.bias", ffn);
  mlp.down = matrix("down", "mlp.c_proj", hidden, ffn);
  mlp.down_bias = vector("mlp.c_proj.bias", hidden);

  for (const char* mask : {"attn.bias", "attn.masked_bias"})
    weights.skip(cat(prefix, mask));  // causal masks, constants
  return {std::move(attention), std::move(mlp)};
}

ModelConfig from_config(const ConfigReader& config) {
  if (!config.get_bool("scale_attn_weights", true) ||
      config.get_bool("scale_attn_by_inverse_layer_idx", false)) {
    config.fail("only attention scaled by the square root of the head size is supported");
  }
  ModelConfig model;
  model.layers = config.get_int("n_layer", 1, limits::kLayers);
  model.hidden = config.get_int("n_embd", 1, limits::kHidden);
  model.heads = model.kv_heads = config.get_int("n_head", 1, limits::kHeads);
  if (model.hidden % model.heads != 0) config.fail("n_embd is no multiple of n_head");
  model.head_dim = model.hidden / model.heads;
  model.ffn = config.get_int("n_inner", 1, limits::kFfn, 4 * model.hidden);
  model.vocab = config.get_int("vocab_size", 1, limits::kVocab);
  model.max_positions = config.get_int("n_positions", 1, limits::kMaxPositions);
  model.norm_eps = read_norm_eps(config, "layer_norm_epsilon", 1e-5);
  model.activation = activation_by_name(config.get_string("activation_function", "gelu_new"), config);
  model.tied_head = config.get_bool("tie_word_embeddings", true);
  return model;
}

ModelConfig from_gguf(const TensorFiles& files) {
  ModelConfig model = read_gguf_config(files);
  model.activation = Activation::gelu_tanh;
  return model;
}

std::unique_ptr<Model> build(ModelConfig config, WeightLoader& weights) {
  config.norm_kind = NormKind::layer;
  config.gated_mlp = false;
  config.qkv_bias = config.out_bias = config.mlp_bias = true;
  config.learned_positions = true;
  config.rope.enabled = false;
  return std::make_unique<Gpt2>(std::move(config), weights);
}

}  // namespace

const Family kGpt2{"gpt2", kArchitectures, kGguf, from_config, from_gguf, build};

}  // namespace llamita
