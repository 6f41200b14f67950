// skinny_sm90: a norm, unless it comes prepared, then gate and up in one product for up to 128 tokens whose
// epilogue folds the two, or up alone with the activation in its epilogue.
#include "ops/linear/skinny_sm90.h"

#include "ops/mlp_in/variants.h"

namespace llamita {

namespace {

// `x`, normed or scaled, may be absent where only shapes matter.
SkinnySm90 product_of(const MlpInArgs& args, const void* x) {
  const quant::Part& first = args.in->parts[0];
  const bool bias = args.bias.defined() && !args.bias.shape_only();
  SkinnySm90 g{};
  g.x = x;
  g.w = first.storage.data();
  g.w_up = args.gated ? args.in->parts[1].storage.data() : nullptr;
  g.element = first.format;
  g.M = static_cast<int>(args.x.dim(0));
  g.N = static_cast<int>(args.out.dim(1));
  g.K = static_cast<int>(args.in->cols);
  g.x_stride = args.in->cols;
  g.bias = bias ? args.bias.ptr<float>() : nullptr;
  g.bias_up = bias && args.gated ? args.bias.ptr<float>() + args.out.dim(1) : nullptr;
  g.activation = args.activation;
  g.out = args.out.data();
  g.out_dtype = args.out.dtype();
  g.out_stride = args.out.stride(0);
  g.norm = skinny_norm(args.prepared, args.norm_eps);
  return g;
}

}  // namespace

bool mlp_in_skinny_sm90_supports(const MlpInArgs& args, const Caps& caps) {
  if (args.in->parts.size() != (args.gated ? 2 : 1) || args.in->layout != quant::Layout::rows) return false;
  for (const quant::Part& part : args.in->parts)
    if (part.format != caps.activation || part.rows != args.out.dim(1)) return false;
  if (args.prepared.defined() && args.prepared.scaled.dtype() != caps.activation) return false;
  return skinny_sm90_supports(product_of(args, args.prepared.scaled.data()), caps);
}

double mlp_in_skinny_sm90_us(const MlpInArgs& args, const Caps& caps) {
  return (args.prepared.defined() ? 0 : 1.5) + skinny_sm90_us(product_of(args, nullptr), caps);
}

int64_t mlp_in_skinny_sm90_scratch_bytes(const MlpInArgs& args, const Caps&) {
  return args.prepared.defined() ? 0 : (args.x.elems() * 2 + 63) / 64 * 64;  // the normed tokens
}

void mlp_in_skinny_sm90(const MlpInArgs& args, Context& context) {
  if (args.x.dim(0) == 0) return;
  if (args.prepared.defined()) return skinny_sm90(product_of(args, args.prepared.scaled.data()), context);
  const Arena::Scope scope(context.arena());
  const Tensor normed = context.arena().take(context.caps().activation, {args.x.dim(0), args.x.dim(1)});
  norm_inside(args, normed, context);
  skinny_sm90(product_of(args, normed.data()), context);
}

}  // namespace llamita
