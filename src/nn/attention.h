// Attention: x += O · attention(norm(x) · QKV), one block of a pre-norm transformer.
#pragma once

#include <string>
#include <vector>

#include "nn/forward_batch.h"
#include "nn/shared_norms.h"
#include "ops/attn_in/attn_in.h"
#include "ops/linear/linear.h"
#include "quant/weight.h"
#include "weights/loader.h"

namespace llamita {

struct Attention {
  int heads = 0;     // H
  int kv_heads = 0;  // Hkv
  int head_dim = 0;  // D
  int window = 0;    // keys a token sees including itself; 0: all
  bool causal = true;

  NormKind norm_kind = NormKind::rms;
  float norm_eps = 0;
  Vector norm, norm_bias;  // (C)
  quant::Weight qkv;       // ((H + 2 Hkv) D, C)
  Vector qkv_bias;         // ((H + 2 Hkv) D) or none
  Vector q_norm, k_norm;   // (D) or none
  quant::Weight out;       // (C, H D)
  Vector out_bias;         // (C) or none

  // x (T, C) is updated in place; cos_sin (T, R) is undefined for models with learned positions.
  void add_to(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch, const KvCache::Layer& kv,
              Context& context, const SharedNorms& norms = {}) const;

  // Whether the kernels that such a step chooses take norms.own; whether they leave norms.next.
  bool takes_own(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch, const KvCache::Layer& kv,
                 const Context& context, const SharedNorms& norms) const;
  bool leaves_next(const Tensor& x, const Context& context, const SharedNorms& norms) const;

 private:
  AttnInArgs in_args(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch,
                     const KvCache::Layer& kv, const SharedNorms& norms, const Tensor& q) const;
  LinearArgs out_args(const Tensor& x, const SharedNorms& norms, const Tensor& mixed) const;
};

}  // namespace llamita
