#include "nn/head.h"

#include <cstring>

#include "hw/cuda/memory.h"
#include "ops/gather/gather.h"
#include "ops/linear/linear.h"

namespace llamita {

void Head::write(const Tensor& x, const Tensor& rows, const Tensor& logits, Context& context) const {
  const Arena::Scope scope(context.arena());
  const Tensor wanted = context.arena().take(DType::f32, {rows.dim(0), x.dim(1)});
  const Tensor normed = context.arena().take(context.caps().activation, {rows.dim(0), x.dim(1)});
  const bool all = rows.dim(0) == x.dim(0);  // rows ascend, so that they are every row
  if (!all) gather({.x = x, .rows = rows, .out = wanted}, context);
  normalise(all ? x : wanted, normed, context);
  linear({.x = normed, .weight = &weight, .out = logits}, context);
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
  if (x.device().kind == DeviceKind::cuda) {
    cuda::copy_async(out.data(), x.data(), static_cast<size_t>(x.bytes()), context.stream());
  } else {
    std::memcpy(out.data(), x.data(), static_cast<size_t>(x.bytes()));
  }
}

}  // namespace llamita
