#include "nn/attention.h"

#include <cmath>

#include "ops/attention/attention.h"

namespace llamita {

void Attention::add_to(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch,
                       const KvCache::Layer& kv, Context& context, const SharedNorms& norms) const {
  const Arena::Scope scope(context.arena());
  const int64_t tokens = x.dim(0);
  const Tensor q = context.arena().take(context.caps().activation, {tokens, heads, head_dim});
  attn_in(in_args(x, cos_sin, batch, kv, norms, q), context);
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
  linear(out_args(x, norms, mixed), context);
}

AttnInArgs Attention::in_args(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch,
                              const KvCache::Layer& kv, const SharedNorms& norms, const Tensor& q) const {
  return {.x = x,
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
          .q = q,
          .prepared = norms.own};
}

LinearArgs Attention::out_args(const Tensor& x, const SharedNorms& norms, const Tensor& mixed) const {
  return {.x = mixed.view({x.dim(0), int64_t{heads} * head_dim}),
          .weight = &out,
          .bias = out_bias.values,
          .residual = x,
          .out = x,
          .next_gain = norms.next_gain,
          .prepared = norms.next};
}

bool Attention::takes_own(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch,
                          const KvCache::Layer& kv, const Context& context, const SharedNorms& norms) const {
  const Tensor q(nullptr, context.caps().activation, {x.dim(0), heads, head_dim}, x.device());
  return norm_kind == NormKind::rms && !norm_bias.values.defined() &&
         takes_prepared_norm(attn_in_op(), in_args(x, cos_sin, batch, kv, norms, q), context);
}

bool Attention::leaves_next(const Tensor& x, const Context& context, const SharedNorms& norms) const {
  const Tensor mixed(nullptr, context.caps().activation, {x.dim(0), heads, head_dim}, x.device());
  return takes_prepared_norm(linear_op(), out_args(x, norms, mixed), context);
}

}  // namespace llamita
