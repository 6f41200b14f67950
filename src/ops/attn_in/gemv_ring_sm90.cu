// attn_in for up to eight tokens on Hopper: the ring of linear/gemv_ring_sm90.cuh behind the norm, with bias,
// rotation and the write of the cache in its epilogue. Bound by the stream of the weights.
#include "ops/linear/gemv_ring_sm90.cuh"

#include "ops/attn_in/gemv_plan.cuh"
#include "ops/attn_in/variants.h"

namespace llamita {

namespace {

struct AttnInRingParams {
  device::AttnInPlan plan;
  device::RingShape shape;
  const float* x;
  int64_t x_stride;
  device::GemvNorm norm;
};

template <class Element>
__global__ void __launch_bounds__(device::kRingThreads, 2)
    attn_in_gemv_ring(const __grid_constant__ AttnInRingParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  device::gemv_ring<Element>(p.plan, p.shape, smem, {}, [&](Element* to, device::RingShared& shared) {
    device::stage_normed<Element>(to, p.x, p.x_stride, p.shape.tokens, p.shape.K, p.norm, shared.team_sums);
  });
}

}  // namespace

bool attn_in_gemv_ring_supports(const AttnInArgs& args, const Caps& caps) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  if (args.q_norm.defined() || args.q.dim(2) % 2 != 0) return false;
  return gemv_ring_supports(*args.qkv, T, caps.activation, caps) && gemv_ring_reads_norm(args) &&
         gemv_staged_bytes(T, C) <= kRingMostStaged;
}

void attn_in_cuda_gemv_ring(const AttnInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), pairs = args.qkv->rows() / 2;
  if (T == 0) return;
  const unsigned grid = gemv_ring_grid(context.caps(), pairs);
  const AttnInRingParams params{.plan = attn_in_plan(args),
                                .shape = gemv_ring_shape(pairs, T, args.x.dim(1), true),
                                .x = args.x.ptr<float>(),
                                .x_stride = args.x.stride(0),
                                .norm = gemv_norm(args)};
  with_half_type(context.caps().activation, [&]<class Element>() {
    launch(context, attn_in_gemv_ring<Element>, grid, device::kRingThreads, gemv_ring_smem(params.shape),
           params);
  });
}

}  // namespace llamita
