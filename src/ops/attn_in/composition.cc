// attn_in as the ops it is made of, through scratch in the arena: a norm of the residual stream, one
// projection to q | k | v side by side, and views of its columns for the rest.
#include <cstring>

#include "ops/attn_in/variants.h"
#include "ops/kv_write/kv_write.h"
#include "ops/linear/linear.h"
#include "ops/rope/rope.h"

namespace llamita {

namespace {

// RMS norm over each head of x (T, H*D) into out (T, H*D); both may be strided.
void norm_heads(const Tensor& x, const Tensor& weight, float eps, const Tensor& out, Context& context) {
  const int64_t D = weight.dim(0), H = x.dim(1) / D;
  if (x.dim(0) == 1) {  // one token's heads lie one after the other: they are rows
    norm({.kind = NormKind::rms,
          .x = x.view({H, D}),
          .weight = weight,
          .bias = {},
          .eps = eps,
          .out = out.view({H, D})},
         context);
    return;
  }
  for (int64_t head = 0; head < H; ++head) {
    norm({.kind = NormKind::rms,
          .x = x.columns(head * D, (head + 1) * D),
          .weight = weight,
          .bias = {},
          .eps = eps,
          .out = out.columns(head * D, (head + 1) * D)},
         context);
  }
}

void copy_rows(const Tensor& from, const Tensor& to, Context& context) {
  if (context.dry_run()) return;
  for (int64_t t = 0; t < from.dim(0); ++t) {
    std::memcpy(to.ptr<float>() + t * to.stride(0), from.ptr<float>() + t * from.stride(0),
                static_cast<size_t>(from.dim(1)) * sizeof(float));
  }
}

}  // namespace

void attn_in_composition(const AttnInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  const int64_t H = args.q.dim(1), Hkv = args.k_cache.dim(1), D = args.q.dim(2);
  const Arena::Scope scope(context.arena());
  const Tensor normed = context.arena().take(DType::f32, {T, C});
  const Tensor qkv = context.arena().take(DType::f32, {T, (H + 2 * Hkv) * D});
  norm_or_finish(args, normed, context);
  linear({.x = normed, .weight = args.qkv, .bias = args.qkv_bias, .residual = {}, .out = qkv}, context);

  const Tensor q_columns = qkv.columns(0, H * D);
  const Tensor k_columns = qkv.columns(H * D, (H + Hkv) * D);
  const Tensor v_columns = qkv.columns((H + Hkv) * D, (H + 2 * Hkv) * D);
  if (args.q_norm.defined()) {
    norm_heads(q_columns, args.q_norm, args.norm_eps, q_columns, context);
    norm_heads(k_columns, args.k_norm, args.norm_eps, k_columns, context);
  }
  const Tensor k = k_columns.split_last(Hkv);
  if (args.cos_sin.defined()) {
    rope({.x = q_columns.split_last(H), .cos_sin = args.cos_sin}, context);
    rope({.x = k, .cos_sin = args.cos_sin}, context);
  }
  kv_write({.k = k,
            .v = v_columns.split_last(Hkv),
            .kv_slot = args.kv_slot,
            .k_cache = args.k_cache,
            .v_cache = args.v_cache},
           context);
  copy_rows(q_columns, args.q.view({T, H * D}), context);
}

}  // namespace llamita
