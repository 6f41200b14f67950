// Mlp: x += down · act(norm(x) · gate) * (norm(x) · up), or without a gate x += down · act(norm(x) · up).
#pragma once

#include "nn/shared_norms.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
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

  // x (T, C) is updated in place.
  void add_to(const Tensor& x, Context& context, const SharedNorms& norms = {}) const;

  // Whether the kernels that such a step chooses take norms.own; whether they leave norms.next.
  bool takes_own(const Tensor& x, const Context& context, const SharedNorms& norms) const;
  bool leaves_next(const Tensor& x, const Context& context, const SharedNorms& norms) const;

 private:
  MlpInArgs in_args(const Tensor& x, const SharedNorms& norms, const Tensor& hidden) const;
  LinearArgs down_args(const Tensor& x, const SharedNorms& norms, const Tensor& hidden) const;
};

}  // namespace llamita
