#include "nn/mlp.h"

namespace llamita {

void Mlp::add_to(const Tensor& x, Context& context, const SharedNorms& norms) const {
  const Arena::Scope scope(context.arena());
  const Tensor hidden = context.arena().take(context.caps().activation, {x.dim(0), ffn});
  mlp_in(in_args(x, norms, hidden), context);
  linear(down_args(x, norms, hidden), context);
}

MlpInArgs Mlp::in_args(const Tensor& x, const SharedNorms& norms, const Tensor& hidden) const {
  return {.x = x,
          .norm_kind = norm_kind,
          .norm_weight = norm.values,
          .norm_bias = norm_bias.values,
          .norm_eps = norm_eps,
          .in = &in,
          .bias = in_bias.values,
          .activation = activation,
          .gated = gated,
          .out = hidden,
          .prepared = norms.own};
}

LinearArgs Mlp::down_args(const Tensor& x, const SharedNorms& norms, const Tensor& hidden) const {
  return {.x = hidden,
          .weight = &down,
          .bias = down_bias.values,
          .residual = x,
          .out = x,
          .next_gain = norms.next_gain,
          .prepared = norms.next};
}

bool Mlp::takes_own(const Tensor& x, const Context& context, const SharedNorms& norms) const {
  const Tensor hidden(nullptr, context.caps().activation, {x.dim(0), ffn}, x.device());
  return norm_kind == NormKind::rms && !norm_bias.values.defined() &&
         takes_prepared_norm(mlp_in_op(), in_args(x, norms, hidden), context);
}

bool Mlp::leaves_next(const Tensor& x, const Context& context, const SharedNorms& norms) const {
  const Tensor hidden(nullptr, context.caps().activation, {x.dim(0), ffn}, x.device());
  return takes_prepared_norm(linear_op(), down_args(x, norms, hidden), context);
}

}  // namespace llamita
