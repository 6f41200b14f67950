// mlp_in for up to eight tokens in one kernel: the tokens are normed into shared memory while the first
// weights are under way (linear/gemv.cuh). Gated: a tile is eight gate rows and the eight up rows that belong
// to them, so that one thread ends with both and the activation folds them at once. Bound by the stream of
// the weights.
#include "ops/activation/device.cuh"
#include "ops/linear/gemv.cuh"
#include "ops/mlp_in/variants.h"

namespace llamita {

namespace {

using device::GemvNorm;
using device::GemvRows;
using device::GemvWeight;

struct MlpInPlan {
  GemvWeight weight;
  const float* bias;  // or nullptr
  void* out;
  int64_t out_stride;
  int tokens, F;
  DType out_dtype;
  Activation activation;
  bool gated;

  __device__ __forceinline__ GemvRows rows(int tile, int g) const {
    GemvRows rows{nullptr, nullptr, weight.parts[0].format};
    const int low = gated ? 8 * tile + g : 16 * tile + g, high = gated ? F + low : low + 8;
    if (low < F) rows.low = weight.row(low, rows.format);
    if (low < F && high < (gated ? 2 * F : F)) rows.high = weight.row(high, rows.format);
    return rows;
  }

  __device__ __forceinline__ void put(int f, int token, float value) const {
    device::store_float(out, out_dtype, token * out_stride + f, value);
  }

  __device__ __forceinline__ void store(int tile, int g, int token0, const float (&d)[4]) const {
    const int low = gated ? 8 * tile + g : 16 * tile + g;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = token0 + i;
      if (token >= tokens || low >= F) continue;
      float first = d[i], second = d[2 + i];
      const int high = gated ? F + low : low + 8;
      if (bias != nullptr) {
        first += bias[low];
        if (gated || high < F) second += bias[high];
      }
      if (gated) {
        put(low, token, device::activate(activation, first) * second);
      } else {
        put(low, token, device::activate(activation, first));
        if (high < F) put(high, token, device::activate(activation, second));
      }
    }
  }
};

struct MlpInParams {
  MlpInPlan plan;
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
  const MlpInParams params{.plan = {.weight = gemv_weight(*args.in),
                                    .bias = data_or_null<float>(args.bias),
                                    .out = args.out.data(),
                                    .out_stride = args.out.stride(0),
                                    .tokens = static_cast<int>(T),
                                    .F = static_cast<int>(F),
                                    .out_dtype = args.out.dtype(),
                                    .activation = args.activation,
                                    .gated = args.gated},
                           .x = args.x.ptr<float>(),
                           .x_stride = args.x.stride(0),
                           .norm = {.weight = args.norm_weight.ptr<float>(),
                                    .bias = data_or_null<float>(args.norm_bias),
                                    .kind = args.norm_kind,
                                    .eps = args.norm_eps},
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
