// A warp an output row and token, weights decoded as they are read: any format, any K, any alignment. It
// reads W once a token, so it serves what the other variants leave, and checks them.
#include "ops/cuda/block_formats.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

constexpr int kWarps = 8;

struct SimpleParams {
  const uint8_t* weight;
  int64_t row_bytes;
  DType format, x_dtype, residual_dtype, out_dtype;
  int N, K;
  const void* x;
  const float* bias;     // or nullptr
  const void* residual;  // or nullptr
  void* out;
  int64_t x_stride, residual_stride, out_stride;
  int64_t first_row;  // of the part, in out's columns
};

template <DType kFormat>
__device__ float row_dot(const SimpleParams& p, const uint8_t* row, int64_t t, int lane) {
  float sum = 0;
  for (int item = lane; item < p.K / 32 * 4; item += 32) {
    float w[8];
    device::decode8<kFormat>(row, item / 4, item % 4, w);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int k = item / 4 * 32 + device::decoded_element(item % 4, j);
      sum = fmaf(w[j], device::load_float(p.x, p.x_dtype, t * p.x_stride + k), sum);
    }
  }
  if constexpr (kFormat == DType::f32 || kFormat == DType::bf16 || kFormat == DType::f16) {
    for (int k = p.K / 32 * 32 + lane; k < p.K; k += 32)
      sum = fmaf(device::load_float(row, kFormat, k), device::load_float(p.x, p.x_dtype, t * p.x_stride + k),
                 sum);
  }
  return device::warp_sum(sum);
}

__global__ void __launch_bounds__(32 * kWarps) linear_warp_a_row(const SimpleParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int n = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32), lane = threadIdx.x % 32;
  const int64_t t = blockIdx.y;
  if (n >= p.N) return;
  float sum = 0;
  device::with_format(
      p.format, [&]<DType kFormat>() { sum = row_dot<kFormat>(p, p.weight + n * p.row_bytes, t, lane); });
  if (lane != 0) return;
  const int64_t column = p.first_row + n;
  if (p.bias != nullptr) sum += p.bias[column];
  if (p.residual != nullptr)
    sum += device::load_float(p.residual, p.residual_dtype, t * p.residual_stride + column);
  device::store_float(p.out, p.out_dtype, t * p.out_stride + column, sum);
}

}  // namespace

bool linear_cuda_reads(const quant::Weight& weight) {
  return weight.layout == quant::Layout::rows &&
         std::all_of(weight.parts.begin(), weight.parts.end(),
                     [](const quant::Part& part) { return device::is_cuda_weight_format(part.format); });
}

void linear_cuda_simple(const LinearArgs& args, Context& context) {
  const bool residual = args.residual.defined();
  constexpr int64_t kMostTokens = 65535;  // of the grid's y
  for (int64_t first = 0; first < args.x.dim(0); first += kMostTokens) {
    const int64_t end = std::min(first + kMostTokens, args.x.dim(0));
    const Tensor x = args.x.slice(first, end), out = args.out.slice(first, end);
    const Tensor added = residual ? args.residual.slice(first, end) : Tensor();
    int64_t first_row = 0;
    for (const quant::Part& part : args.weight->parts) {
      const SimpleParams params{.weight = static_cast<const uint8_t*>(part.storage.data()),
                                .row_bytes = row_bytes(part.format, args.weight->cols),
                                .format = part.format,
                                .x_dtype = x.dtype(),
                                .residual_dtype = residual ? added.dtype() : DType::f32,
                                .out_dtype = out.dtype(),
                                .N = static_cast<int>(part.rows),
                                .K = static_cast<int>(args.weight->cols),
                                .x = x.data(),
                                .bias = data_or_null<float>(args.bias),
                                .residual = data_or_null<void>(added),
                                .out = out.data(),
                                .x_stride = x.stride(0),
                                .residual_stride = residual ? added.stride(0) : 0,
                                .out_stride = out.stride(0),
                                .first_row = first_row};
      launch(context, linear_warp_a_row,
             dim3(ceil_div(part.rows, kWarps), static_cast<unsigned>(end - first)), 32 * kWarps, 0, params);
      first_row += part.rows;
    }
  }
}

}  // namespace llamita
