// gemm_sm90, gemm_sm90_ping_pong: a norm, then gate and up in one Hopper GEMM whose epilogue folds the two,
// or up alone with the activation in its epilogue: what the projections give never goes to memory.
#include "ops/linear/gemm_sm90.h"

#include "ops/mlp_in/variants.h"

namespace llamita {

namespace {

// `normed` may be absent where only shapes matter.
GemmSm90 gemm_of(const MlpInArgs& args, const void* normed) {
  const bool bias = args.bias.defined() && !args.bias.shape_only();
  GemmSm90 g{};
  g.a = normed;
  g.b = args.in->parts[0].storage.data();
  g.b_up = args.gated ? args.in->parts[1].storage.data() : nullptr;
  g.element = args.out.dtype();
  g.M = static_cast<int>(args.x.dim(0));
  g.N = static_cast<int>(args.out.dim(1));
  g.K = static_cast<int>(args.in->cols);
  g.a_stride = args.in->cols;
  g.bias = bias ? args.bias.ptr<float>() : nullptr;
  g.bias_up = bias && args.gated ? args.bias.ptr<float>() + args.out.dim(1) : nullptr;
  g.activation = args.activation;
  g.kind = GemmSm90::Out::element;
  g.out = args.out.data();
  g.out_stride = args.out.stride(0);
  return g;
}

}  // namespace

bool mlp_in_gemm_sm90_supports(const MlpInArgs& args, const Caps& caps) {
  if (args.in->parts.size() != (args.gated ? 2 : 1) || args.out.dtype() == DType::f32) return false;
  for (const quant::Part& part : args.in->parts)
    if (part.format != args.out.dtype() || part.rows != args.out.dim(1)) return false;
  return gemm_sm90_supports(gemm_of(args, nullptr), caps);
}

int64_t mlp_in_gemm_sm90_scratch_bytes(const MlpInArgs& args, const Caps&) { return args.x.elems() * 2 + 64; }

namespace {

double norm_and_gemm_us(const MlpInArgs& args, GemmSchedule schedule, const Caps& caps) {
  // The norm reads f32 and writes 16 bits at the roof of memory.
  const double norm_us = 3 + 6e-6 / 2.7 * static_cast<double>(args.x.elems());
  return norm_us + gemm_sm90_us(gemm_of(args, nullptr), schedule, caps);
}

void norm_and_gemm(const MlpInArgs& args, GemmSchedule schedule, Context& context) {
  const Tensor normed = context.arena().take(args.out.dtype(), {args.x.dim(0), args.x.dim(1)});
  norm_inside(args, normed, context);
  gemm_sm90(gemm_of(args, normed.data()), schedule, context);
}

}  // namespace

double mlp_in_gemm_sm90_us(const MlpInArgs& args, const Caps& caps) {
  return norm_and_gemm_us(args, GemmSchedule::cooperative, caps);
}

void mlp_in_gemm_sm90(const MlpInArgs& args, Context& context) {
  norm_and_gemm(args, GemmSchedule::cooperative, context);
}

double mlp_in_gemm_sm90_ping_pong_us(const MlpInArgs& args, const Caps& caps) {
  return norm_and_gemm_us(args, GemmSchedule::ping_pong, caps);
}

void mlp_in_gemm_sm90_ping_pong(const MlpInArgs& args, Context& context) {
  norm_and_gemm(args, GemmSchedule::ping_pong, context);
}

}  // namespace llamita
