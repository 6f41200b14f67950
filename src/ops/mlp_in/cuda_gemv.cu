// mlp_in for up to eight tokens in one kernel: the tokens are normed into shared memory while the first
// weights are under way (linear/gemv.cuh). Gated: a tile is eight gate rows and the eight up rows that belong
// to them, so that one thread ends with both and the activation folds them at once. Bound by the stream of
// the weights.
#include "ops/mlp_in/gemv_plan.cuh"
#include "ops/mlp_in/variants.h"

namespace llamita {

namespace {

using device::GemvNorm;

struct MlpInParams {
  device::MlpInPlan plan;
  const float* x;
  int64_t x_stride;
  GemvNorm norm;
  int tiles;
};

template <class Element, bool kBlocks>
__global__ void __launch_bounds__(device::kGemvThreads, 2)
    mlp_in_gemv(const __grid_constant__ MlpInParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  const int K = p.plan.weight.K;
  device::start_successor();
  device::gemv<Element, kBlocks, 1>(p.plan, p.tiles, K, smem, [&] {
    device::wait_for_predecessor();
    return device::stage_tokens<Element>(reinterpret_cast<Element*>(smem + device::gemv_sum_bytes(1)), p.x,
                                         DType::f32, p.x_stride, p.plan.tokens, K, p.norm);
  });
}

}  // namespace

bool mlp_in_gemv_supports(const MlpInArgs& args, const Caps& caps) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  if (T > 8 || caps.activation == DType::f32 || !gemv_supports_weight(*args.in)) return false;
  const bool dense = gemv_is_dense(*args.in, caps.activation);
  if (!dense && C % 32 != 0) return false;
  // A tile has one format.
  for (const quant::Part& part : args.in->parts)
    if (part.format != args.in->parts.front().format) return false;
  return gemv_staged_bytes(T, C) <= kGemvStagedBytes;
}

void mlp_in_cuda_gemv(const MlpInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1), F = args.out.dim(1);
  if (T == 0) return;
  const MlpInParams params{.plan = mlp_in_plan(args),
                           .x = args.x.ptr<float>(),
                           .x_stride = args.x.stride(0),
                           .norm = gemv_norm(args),
                           .tiles = static_cast<int>(ceil_div(F, args.gated ? 8 : 16))};
  const dim3 grid(gemv_grid(context.caps(), params.tiles));
  const auto smem = static_cast<size_t>(device::gemv_sum_bytes(1) + gemv_staged_bytes(T, C));
  with_half_type(context.caps().activation, [&]<class Element>() {
    const auto kernel = gemv_is_dense(*args.in, context.caps().activation) ? mlp_in_gemv<Element, false>
                                                                           : mlp_in_gemv<Element, true>;
    launch(context, kernel, grid, device::kGemvThreads, smem, params);
  });
}

}  // namespace llamita
