// activation: the elementwise part of a feed-forward block.
//   gated:   out = act(gate) * up       (SwiGLU, Shazeer 2020)
//   ungated: out = act(gate)
#pragma once

#include "ops/op.h"

namespace llamita {

enum class Activation { silu, gelu, gelu_tanh, quick_gelu, relu };

struct ActivationArgs {
  Activation kind = Activation::silu;
  Tensor gate;  // (T, F) f32, on a GPU also bf16 or f16; rows may be strided
  Tensor up;    // the same, or undefined
  Tensor out;   // (T, F) f32, on a GPU also bf16 or f16; rows may be strided; may be gate
};

const Op<ActivationArgs>& activation_op();
inline void activation(const ActivationArgs& args, Context& context) { run(activation_op(), args, context); }

}  // namespace llamita
