// linear for up to 32 tokens: the loop of gemv.cuh over the rows of all parts, with bias and residual. Bound
// by the stream of W. x is read where it lies when it is of the weights' type; f32 rows (the head's) are
// rounded into shared memory by every block.
#include "ops/linear/gemv_plan.cuh"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

using device::GemvInput;
using device::GemvNorm;

struct LinearGemvParams {
  device::LinearPlan plan;
  const void* x;
  int64_t x_stride;
  DType x_dtype;
  bool staged;
  int tiles;
};

template <class Element, bool kBlocks, int kTokenTiles>
__global__ void __launch_bounds__(device::kGemvThreads, 2)
    linear_gemv(const __grid_constant__ LinearGemvParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  const int K = p.plan.weight.K;
  device::start_successor();
  device::gemv<Element, kBlocks, kTokenTiles>(p.plan, p.tiles, K, smem, [&]() -> GemvInput<Element> {
    device::wait_for_predecessor();
    if (p.staged)
      return device::stage_tokens<Element>(
          reinterpret_cast<Element*>(smem + device::gemv_sum_bytes(kTokenTiles)), p.x, p.x_dtype, p.x_stride,
          p.plan.tokens, K, GemvNorm{});
    return {static_cast<const Element*>(p.x), p.x_stride, p.plan.tokens, K};
  });
}

DType element_of(const LinearArgs& args, const Caps& caps) {
  const DType first = args.weight->parts.front().format;
  if (first != DType::f32 && gemv_is_dense(*args.weight, first) && !is_block(first)) return first;
  return args.x.dtype() == DType::f32 ? caps.activation : args.x.dtype();
}

// x must pass through shared memory: another type, or rows that 16-byte loads do not fit.
bool needs_staging(const LinearArgs& args, DType element) {
  return args.x.dtype() != element || args.x.stride(0) % 8 != 0 ||
         reinterpret_cast<uintptr_t>(args.x.data()) % 16 != 0;
}

bool supports(const LinearArgs& args, const Caps& caps, bool dense) {
  const DType element = element_of(args, caps);
  if (element == DType::f32 || args.weight->parts.empty() || !gemv_supports_weight(*args.weight))
    return false;
  if (gemv_is_dense(*args.weight, element) != dense || args.x.dim(0) > 32) return false;
  if (!dense && args.weight->cols % 32 != 0) return false;
  return !needs_staging(args, element) ||
         gemv_staged_bytes(args.x.dim(0), args.weight->cols) <= gemv_most_staged_bytes(caps);
}

template <bool kBlocks>
void run(const LinearArgs& args, Context& context) {
  const DType element = element_of(args, context.caps());
  const int64_t T = args.x.dim(0);
  if (T == 0) return;
  const bool staged = needs_staging(args, element);
  LinearGemvParams params{.plan = linear_plan(args),
                          .x = args.x.data(),
                          .x_stride = args.x.stride(0),
                          .x_dtype = args.x.dtype(),
                          .staged = staged,
                          .tiles = 0};
  for (const quant::Part& part : args.weight->parts)
    params.tiles += static_cast<int>(ceil_div(part.rows, device::kGemvRows));
  const int token_tiles = T <= 8 ? 1 : T <= 16 ? 2 : 4;
  const size_t smem = static_cast<size_t>(device::gemv_sum_bytes(token_tiles)) +
                      (staged ? static_cast<size_t>(gemv_staged_bytes(T, args.weight->cols)) : 0);
  const dim3 grid(gemv_grid(context.caps(), params.tiles));
  with_half_type(element, [&]<class Element>() {
    const auto kernel = token_tiles == 1   ? linear_gemv<Element, kBlocks, 1>
                        : token_tiles == 2 ? linear_gemv<Element, kBlocks, 2>
                                           : linear_gemv<Element, kBlocks, 4>;
    launch(context, kernel, grid, device::kGemvThreads, smem, params);
  });
}

}  // namespace

bool linear_gemv_supports(const LinearArgs& args, const Caps& caps) { return supports(args, caps, true); }
bool linear_gemv_blocks_supports(const LinearArgs& args, const Caps& caps) {
  return supports(args, caps, false);
}
void linear_cuda_gemv(const LinearArgs& args, Context& context) { run<false>(args, context); }
void linear_cuda_gemv_blocks(const LinearArgs& args, Context& context) { run<true>(args, context); }

}  // namespace llamita
