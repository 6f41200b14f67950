#include "nn/mlp.h"

#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"

namespace llamita {

void Mlp::add_to(const Tensor& x, Context& context) const {
  const Arena::Scope scope(context.arena());
  const Tensor hidden = context.arena().take(context.caps().activation, {x.dim(0), ffn});
  mlp_in({.x = x,
          .norm_kind = norm_kind,
          .norm_weight = norm.values,
          .norm_bias = norm_bias.values,
          .norm_eps = norm_eps,
          .in = &in,
          .bias = in_bias.values,
          .activation = activation,
          .gated = gated,
          .out = hidden},
         context);
  linear({.x = hidden, .weight = &down, .bias = down_bias.values, .residual = x, .out = x}, context);
}

}  // namespace llamita
