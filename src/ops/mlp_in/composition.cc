// mlp_in as the ops it is made of: a norm, one projection to gate | up side by side in the arena, and the
// activation that folds the two.
#include "ops/linear/linear.h"
#include "ops/mlp_in/variants.h"

namespace llamita {

void mlp_in_composition(const MlpInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1), F = args.out.dim(1);
  const Arena::Scope scope(context.arena());
  const Tensor normed = context.arena().take(context.caps().activation, {T, C});
  norm_or_finish(args, normed, context);
  // What the activation reads is f32 on every device: two roundings to 16 bits before it would show.
  if (!args.gated) {
    const bool in_place = args.out.dtype() == DType::f32;
    const Tensor up = in_place ? args.out : context.arena().take(DType::f32, {T, F});
    linear({.x = normed, .weight = args.in, .bias = args.bias, .residual = {}, .out = up}, context);
    activation({.kind = args.activation, .gate = up, .up = {}, .out = args.out}, context);
    return;
  }
  const Tensor gate_up = context.arena().take(DType::f32, {T, 2 * F});
  linear({.x = normed, .weight = args.in, .bias = args.bias, .residual = {}, .out = gate_up}, context);
  activation({.kind = args.activation,
              .gate = gate_up.columns(0, F),
              .up = gate_up.columns(F, 2 * F),
              .out = args.out},
             context);
}

}  // namespace llamita
