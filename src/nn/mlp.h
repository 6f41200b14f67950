// Mlp: x += down · act(norm(x) · gate) * (norm(x) · up), or without a gate x += down · act(norm(x) · up).
#pragma once

#include "ops/activation/activation.h"
#include "ops/context.h"
#include "ops/norm/norm.h"
#include "quant/weight.h"
#include "weights/loader.h"

namespace llamita {

struct Mlp {
  int ffn = 0;  // F
  bool gated = true;
  Activation activation = Activation::silu;

  NormKind norm_kind = NormKind::rms;
  float norm_eps = 0;
  Vector norm, norm_bias;  // (C)
  quant::Weight in;        // (2F, C) rows gate | up, or (F, C)
  Vector in_bias;          // (2F) or (F), or none
  quant::Weight down;      // (C, F)
  Vector down_bias;        // (C) or none

  void add_to(const Tensor& x, Context& context) const;  // x (T, C), in place
};

}  // namespace llamita
