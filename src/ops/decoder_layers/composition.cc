// decoder_layers as the ops it is made of.
#include <cmath>

#include "ops/attention/attention.h"
#include "ops/attn_in/attn_in.h"
#include "ops/decoder_layers/variants.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"

namespace llamita {

void decoder_layers_composition(const DecoderLayersArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), H = args.heads;
  for (const DecoderLayer& layer : args.layers) {
    const Arena::Scope scope(context.arena());
    const int64_t D = layer.k_cache.dim(3), F = layer.down->cols;
    const DType passing = context.caps().activation;
    const Tensor q = context.arena().take(passing, {T, H, D}),
                 mixed = context.arena().take(passing, {T, H, D});
    const Tensor hidden = context.arena().take(passing, {T, F});
    attn_in({.x = args.x,
             .norm_weight = layer.attn_norm,
             .norm_bias = {},
             .norm_eps = args.norm_eps,
             .qkv = layer.qkv,
             .qkv_bias = layer.qkv_bias,
             .q_norm = layer.q_norm,
             .k_norm = layer.k_norm,
             .cos_sin = args.cos_sin,
             .kv_slot = args.kv_slot,
             .k_cache = layer.k_cache,
             .v_cache = layer.v_cache,
             .q = q},
            context);
    attention({.q = q,
               .k_cache = layer.k_cache,
               .v_cache = layer.v_cache,
               .q_start = args.q_start,
               .kv_len = args.kv_len,
               .block_table = args.block_table,
               .plan = args.plan,
               .scale = 1.0f / std::sqrt(static_cast<float>(D)),
               .window = layer.window,
               .out = mixed},
              context);
    linear({.x = mixed.view({T, H * D}), .weight = layer.out, .bias = {}, .residual = args.x, .out = args.x},
           context);
    mlp_in({.x = args.x,
            .norm_weight = layer.mlp_norm,
            .norm_bias = {},
            .norm_eps = args.norm_eps,
            .in = layer.gate_up,
            .bias = {},
            .out = hidden},
           context);
    linear({.x = hidden, .weight = layer.down, .bias = {}, .residual = args.x, .out = args.x}, context);
  }
}

}  // namespace llamita
