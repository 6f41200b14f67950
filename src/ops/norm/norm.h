// norm: RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last axis.
//   rms:   out = x / sqrt(mean(x^2) + eps) * weight
//   layer: out = (x - mean) / sqrt(var + eps) * weight + bias
// Reduction order: on the CPU sums run in double, element c of a row into partial sum c % 8 in ascending
// order, and these in a tree; on a GPU in f32 over a fixed tree; a row's result depends on nothing else.
#pragma once

#include "ops/op.h"

namespace llamita {

enum class NormKind { rms, layer };

struct NormArgs {
  NormKind kind = NormKind::rms;
  Tensor x;       // (T, C) f32, rows may be strided
  Tensor weight;  // (C) f32
  Tensor bias;    // (C) f32 or undefined
  float eps = 1e-5f;
  Tensor out;  // (T, C) f32, on a GPU also bf16 or f16; rows may be strided; may be x
};

const Op<NormArgs>& norm_op();
inline void norm(const NormArgs& args, Context& context) { run(norm_op(), args, context); }

// The norm with which a fused op begins (attn_in, mlp_in), to `out` (T, C).
template <class FusedArgs>
NormArgs norm_of(const FusedArgs& args, const Tensor& out) {
  return {.kind = args.norm_kind,
          .x = args.x,
          .weight = args.norm_weight,
          .bias = args.norm_bias,
          .eps = args.norm_eps,
          .out = out};
}

// The same as part of that op's time, with no record of its own.
template <class FusedArgs>
void norm_inside(const FusedArgs& args, const Tensor& out, Context& context) {
  std::vector<OpRecord>* records = context.records();
  context.record_to(nullptr);
  norm(norm_of(args, out), context);
  context.record_to(records);
}

}  // namespace llamita
