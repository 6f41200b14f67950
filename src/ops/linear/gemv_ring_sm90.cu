// linear for up to eight tokens on Hopper: the ring of gemv_ring_sm90.cuh with bias and residual. Bound by
// the stream of W.
#include "ops/linear/gemv_ring_sm90.cuh"

#include "ops/linear/gemv_plan.cuh"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

struct LinearRingParams {
  device::LinearPlan plan;
  device::RingShape shape;
  const void* x;
  int64_t x_stride;
};

template <class Element>
__global__ void __launch_bounds__(device::kRingThreads, 2)
    linear_gemv_ring(const __grid_constant__ LinearRingParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  const auto* x = static_cast<const Element*>(p.x);
  device::gemv_ring<Element>(p.plan, p.shape, smem, {x, p.x_stride, p.shape.tokens, p.shape.K},
                             [&](Element* to, device::RingShared&) {
                               device::stage_copied<Element>(to, x, p.x_stride, p.shape.tokens, p.shape.K);
                             });
}

}  // namespace

bool linear_gemv_ring_supports(const LinearArgs& args, const Caps& caps) {
  const DType element = args.x.dtype();
  return gemv_ring_supports(*args.weight, args.x.dim(0), element, caps) && args.x.stride(0) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(args.x.data()) % 16 == 0;
}

void linear_cuda_gemv_ring(const LinearArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), pairs = ceil_div(args.weight->rows(), 2);
  if (T == 0) return;
  const unsigned grid = gemv_ring_grid(context.caps(), pairs);
  const LinearRingParams params{.plan = linear_plan(args),
                                .shape = gemv_ring_shape(pairs, T, args.weight->cols, false),
                                .x = args.x.data(),
                                .x_stride = args.x.stride(0)};
  with_half_type(args.x.dtype(), [&]<class Element>() {
    launch(context, linear_gemv_ring<Element>, grid, device::kRingThreads, gemv_ring_smem(params.shape),
           params);
  });
}

}  // namespace llamita
