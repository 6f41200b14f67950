// mlp_in: norm, gate and up projections and the activation in one op; what is left of the block is the down
// projection.
#pragma once

#include "ops/activation/activation.h"
#include "ops/norm/norm.h"
#include "ops/norm/prepared_norm.h"
#include "ops/op.h"
#include "quant/weight.h"

namespace llamita {

struct MlpInArgs {
  Tensor x;  // (T, C) f32, the residual stream
  NormKind norm_kind = NormKind::rms;
  Tensor norm_weight;  // (C) f32
  Tensor norm_bias;    // (C) f32 or undefined
  float norm_eps = 1e-5f;
  const quant::Weight* in = nullptr;  // gated: (2F, C), rows gate | up; ungated: (F, C)
  Tensor bias;                        // (2F) or (F) f32, or undefined
  Activation activation = Activation::silu;
  bool gated = true;
  Tensor out;                  // (T, F) f32, on a GPU also bf16 or f16
  PreparedNorm prepared = {};  // of x, with norm_weight as its gain; then x is not read
};

const Op<MlpInArgs>& mlp_in_op();
inline void mlp_in(const MlpInArgs& args, Context& context) { run(mlp_in_op(), args, context); }

}  // namespace llamita
