#include "nn/attention.h"

#include <cmath>

#include "ops/attention/attention.h"
#include "ops/attn_in/attn_in.h"
#include "ops/linear/linear.h"

namespace llamita {

void Attention::add_to(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch,
                       const KvCache::Layer& kv, Context& context) const {
  const Arena::Scope scope(context.arena());
  const int64_t tokens = x.dim(0);
  const Tensor q = context.arena().take(context.caps().activation, {tokens, heads, head_dim});
  attn_in({.x = x,
           .norm_kind = norm_kind,
           .norm_weight = norm.values,
           .norm_bias = norm_bias.values,
           .norm_eps = norm_eps,
           .qkv = &qkv,
           .qkv_bias = qkv_bias.values,
           .q_norm = q_norm.values,
           .k_norm = k_norm.values,
           .cos_sin = cos_sin,
           .kv_slot = batch.kv_slot,
           .k_cache = kv.k,
           .v_cache = kv.v,
           .q = q},
          context);
  const Tensor mixed = context.arena().take(context.caps().activation, {tokens, heads, head_dim});
  attention({.q = q,
             .k_cache = kv.k,
             .v_cache = kv.v,
             .q_start = batch.q_start,
             .kv_len = batch.kv_len,
             .block_table = batch.block_table,
             .plan = batch.plan,
             .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
             .window = window,
             .causal = causal,
             .out = mixed},
            context);
  linear({.x = mixed.view({tokens, int64_t{heads} * head_dim}),
          .weight = &out,
          .bias = out_bias.values,
          .residual = x,
          .out = x},
         context);
}

}  // namespace llamita
