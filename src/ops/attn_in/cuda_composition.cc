// attn_in on a GPU as norm, projection and one kernel for the rest: for more tokens than the fused gemv
// takes, and for models with q/k norm, whose heads must be complete before they can be rotated.
#include "ops/attn_in/variants.h"

#if LLAMITA_HAVE_CUDA

#include "ops/attn_in/cuda_heads.h"
#include "ops/linear/linear.h"

namespace llamita {

void attn_in_cuda_composition(const AttnInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  const Arena::Scope scope(context.arena());
  const Tensor normed = context.arena().take(context.caps().activation, {T, C});
  const Tensor qkv = context.arena().take(context.caps().activation, {T, args.qkv->rows()});
  norm(norm_of(args, normed), context);
  linear({.x = normed, .weight = args.qkv, .bias = args.qkv_bias, .residual = {}, .out = qkv}, context);
  if (!context.dry_run()) attn_in_finish_heads(args, qkv, context);
}

}  // namespace llamita

#endif
