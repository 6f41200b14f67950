#include "nn/head.h"

#include <cstring>

#include "ops/gather/gather.h"
#include "ops/linear/linear.h"

namespace llamita {

void Head::write(const Tensor& x, const Tensor& rows, const Tensor& logits, Context& context) const {
  const Arena::Scope scope(context.arena());
  const Tensor wanted = context.arena().take(DType::f32, {rows.dim(0), x.dim(1)});
  gather({.x = x, .rows = rows, .out = wanted}, context);
  normalise(wanted, wanted, context);
  linear({.x = wanted, .weight = &weight, .out = logits}, context);
}

void Head::normalise(const Tensor& x, const Tensor& out, Context& context) const {
  llamita::norm({.kind = norm_kind,
                 .x = x,
                 .weight = norm.values,
                 .bias = norm_bias.values,
                 .eps = norm_eps,
                 .out = out},
                context);
}

void keep_hidden(const Tensor& x, const ForwardBatch& batch, int index, const Context& context) {
  if (batch.hidden_out == nullptr || context.dry_run()) return;
  const Tensor& out = batch.hidden_out->at(static_cast<size_t>(index));
  if (!out.defined()) return;
  LLAMITA_CHECK(out.bytes() == x.bytes(), "hidden_out is ", out.shape_text(), " for ", x.shape_text());
  std::memcpy(out.data(), x.data(), static_cast<size_t>(x.bytes()));
}

}  // namespace llamita
