// attn_in: everything between the residual stream and attention in one op: norm, QKV projection with bias,
// per-head q/k norm, rotary embedding, and the write of K and V into the cache. Every member that is
// undefined or null is a step the model does not have.
#pragma once

#include "ops/norm/norm.h"
#include "ops/norm/prepared_norm.h"
#include "ops/op.h"
#include "quant/kv_format.h"
#include "quant/weight.h"

namespace llamita {

struct AttnInArgs {
  Tensor x;  // (T, C) f32, the residual stream
  NormKind norm_kind = NormKind::rms;
  Tensor norm_weight;  // (C) f32
  Tensor norm_bias;    // (C) f32 or undefined
  float norm_eps = 1e-5f;
  const quant::Weight* qkv = nullptr;  // (H*D + 2*Hkv*D, C), rows q | k | v
  Tensor qkv_bias;                     // (H*D + 2*Hkv*D) f32 or undefined
  Tensor q_norm, k_norm;               // (D) f32 each, or both undefined: RMS over each head
  Tensor cos_sin;                      // (T, R) f32 from rope_table, or undefined (learned positions)
  Tensor kv_slot;                      // (T) i64
  Tensor k_cache, v_cache;             // (pages, Hkv, kPageTokens, D), see kv_write
  Tensor q;                            // (T, H, D) out: f32, on a GPU also bf16 or f16
  PreparedNorm prepared = {};          // of x, with norm_weight as its gain; then x is not read
};

const Op<AttnInArgs>& attn_in_op();
inline void attn_in(const AttnInArgs& args, Context& context) { run(attn_in_op(), args, context); }

}  // namespace llamita
