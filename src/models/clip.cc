#include "models/clip.h"

#include <array>

#include "base/cat.h"
#include "nn/vision_batch.h"
#include "ops/linear/linear.h"
#include "ops/patch_embed/patch_embed.h"
#include "weights/limits.h"

namespace llamita {

void ClipTower::forward(const Tensor& pixels, const ForwardBatch& batch, const Tensor& x,
                        Context& context) const {
  Arena& arena = context.arena();
  const Arena::Scope scope(arena);
  const DType passing = context.caps().activation;
  const Tensor patches = arena.take(passing, {x.dim(0), patches_.cols});  // (n tokens, K)
  const int64_t pages = pixels.dim(0) * pages_of_image(config_), D = config_.hidden / config_.heads;
  const KvCache::Layer kv{arena.take(passing, {pages, config_.heads, kPageTokens, D}),
                          arena.take(passing, {pages, config_.heads, kPageTokens, D})};

  patch_embed({.pixels = pixels,
               .class_row = class_row_.values,
               .positions = positions_.values,
               .patch = config_.patch,
               .patches = patches,
               .x = x},
              context);
  linear({.x = patches, .weight = &patches_, .bias = {}, .residual = x, .out = x}, context);
  norm({.kind = NormKind::layer,
        .x = x,
        .weight = norm_.values,
        .bias = norm_bias_.values,
        .eps = config_.norm_eps,
        .out = x},
       context);
  for (const Layer& layer : layers_) {
    layer.attention.add_to(x, {}, batch, kv, context);
    layer.mlp.add_to(x, context);
  }
}

ClipTower::ClipTower(const VisionConfig& config, WeightLoader& weights) : config_(config) {
  const int64_t C = config.hidden;
  patches_ = weights.convolution("vision_tower.embeddings.patch_embedding.weight", C, 3, config.patch);
  class_row_ = weights.vector("vision_tower.embeddings.class_embedding", C);
  positions_ = weights.table("vision_tower.embeddings.position_embedding.weight", config.tokens(), C);
  weights.skip("vision_tower.embeddings.position_ids");           // 0, 1, 2, …, in old checkpoints
  norm_ = weights.vector("vision_tower.pre_layrnorm.weight", C);  // so it is spelt
  norm_bias_ = weights.vector("vision_tower.pre_layrnorm.bias", C);
  for (int i = 0; i < config.layers; ++i) layers_.push_back(load_layer(i, weights));
  for (int i = config.layers; i < config.all_layers; ++i)
    weights.skip_all(cat("vision_tower.encoder.layers.", i, "."));
  weights.skip_all("vision_tower.post_layernorm.");
}

ClipTower::Layer ClipTower::load_layer(int index, WeightLoader& weights) const {
  const std::string prefix = cat("vision_tower.encoder.layers.", index, ".");
  const int64_t C = config_.hidden, F = config_.ffn;
  const auto matrix = [&](const char* label, const char* name, int64_t rows, int64_t cols) {
    return weights.linear({label, cat(prefix, name, ".weight"), rows}, cols);
  };
  const auto vector = [&](const char* name, int64_t n) { return weights.vector(cat(prefix, name), n); };
  const auto parts = [&](const char* suffix) {
    return std::array<PartSpec, 3>{{{"q", cat(prefix, "self_attn.q_proj.", suffix), C},
                                    {"k", cat(prefix, "self_attn.k_proj.", suffix), C},
                                    {"v", cat(prefix, "self_attn.v_proj.", suffix), C}}};
  };
  Attention attention;
  attention.heads = attention.kv_heads = config_.heads;
  attention.head_dim = config_.hidden / config_.heads;
  attention.causal = false;
  attention.norm_kind = NormKind::layer;
  attention.norm_eps = config_.norm_eps;
  attention.norm = vector("layer_norm1.weight", C);
  attention.norm_bias = vector("layer_norm1.bias", C);
  attention.qkv = weights.linear(parts("weight"), C);
  attention.qkv_bias = weights.vector(parts("bias"));
  attention.out = matrix("o", "self_attn.out_proj", C, C);
  attention.out_bias = vector("self_attn.out_proj.bias", C);

  Mlp mlp;
  mlp.ffn = config_.ffn;
  mlp.gated = false;
  mlp.activation = config_.activation;
  mlp.norm_kind = NormKind::layer;
  mlp.norm_eps = config_.norm_eps;
  mlp.norm = vector("layer_norm2.weight", C);
  mlp.norm_bias = vector("layer_norm2.bias", C);
  mlp.in = matrix("up", "mlp.fc1", F, C);
  mlp.in_bias = vector("mlp.fc1.bias", F);
  mlp.down = matrix("down", "mlp.fc2", C, F);
  mlp.down_bias = vector("mlp.fc2.bias", C);
  return {std::move(attention), std::move(mlp)};
}

VisionConfig read_clip_config(const ConfigReader& config, int select) {
  VisionConfig vision;
  vision.hidden = config.get_int("hidden_size", 1, limits::kHidden, 768);
  vision.heads = config.get_int("num_attention_heads", 1, limits::kHeads, 12);
  vision.ffn = config.get_int("intermediate_size", 1, limits::kFfn, 3072);
  vision.all_layers = config.get_int("num_hidden_layers", 1, limits::kLayers, 12);
  vision.image_size = config.get_int("image_size", 1, limits::kImageSide, 224);
  vision.patch = config.get_int("patch_size", 1, vision.image_size, 32);
  vision.norm_eps = read_norm_eps(config, "layer_norm_eps", 1e-5);
  vision.activation = activation_by_name(config.get_string("hidden_act", "quick_gelu"), config);
  if (config.get_int("num_channels", 1, 64, 3) != 3) config.fail("only images of 3 channels are supported");
  if (vision.hidden % vision.heads != 0) {
    config.fail(cat("hidden_size ", vision.hidden, " is no multiple of ", vision.heads, " heads"));
  }
  if (vision.image_size % vision.patch != 0) {
    config.fail(cat("image_size ", vision.image_size, " is no multiple of patch_size ", vision.patch));
  }
  const int states = vision.all_layers + 1;
  if (select < -states || select >= states) {
    config.fail(cat("vision_feature_layer ", select, " is none of the tower's ", states, " hidden states"));
  }
  vision.layers = select < 0 ? states + select : select;
  return vision;
}

}  // namespace llamita
