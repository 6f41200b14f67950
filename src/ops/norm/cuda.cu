// One block a row, fp32 sums: the row is read twice, the second time from L1. Bound by memory; a row of a
// decode step is bound by latency.
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/norm/variants.h"

namespace llamita {

namespace {

constexpr int kWarps = 8;

template <class Out>
struct NormParams {
  const float* x;
  const float* weight;
  const float* bias;  // or nullptr
  Out* out;
  int64_t x_stride, out_stride;
  int columns;
  float eps;
};

template <class Out, NormKind kKind>
__global__ void __launch_bounds__(32 * kWarps) norm_rows(const NormParams<Out> p) {
  device::wait_for_predecessor();
  device::start_successor();
  const float* x = p.x + blockIdx.x * p.x_stride;
  Out* out = p.out + blockIdx.x * p.out_stride;
  float mean = 0;
  if constexpr (kKind == NormKind::layer) {
    float sum = 0;
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) sum += x[c];
    mean = device::block_sum<kWarps>(sum) / static_cast<float>(p.columns);
  }
  float squares = 0;
  for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
    const float value = x[c] - mean;
    squares += value * value;
  }
  squares = device::block_sum<kWarps>(squares);
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(p.columns) + p.eps);
  for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
    float value = (x[c] - mean) * inverse * p.weight[c];
    if (p.bias != nullptr) value += p.bias[c];
    out[c] = device::from_f32<Out>(value);
  }
}

}  // namespace

void norm_cuda_rows(const NormArgs& args, Context& context) {
  with_float_type(args.out.dtype(), [&]<class Out>() {
    const NormParams<Out> params{.x = args.x.ptr<float>(),
                                 .weight = args.weight.ptr<float>(),
                                 .bias = data_or_null<float>(args.bias),
                                 .out = static_cast<Out*>(args.out.data()),
                                 .x_stride = args.x.stride(0),
                                 .out_stride = args.out.stride(0),
                                 .columns = static_cast<int>(args.x.dim(1)),
                                 .eps = args.eps};
    const auto kernel =
        args.kind == NormKind::rms ? norm_rows<Out, NormKind::rms> : norm_rows<Out, NormKind::layer>;
    launch(context, kernel, dim3(static_cast<unsigned>(args.x.dim(0))), 32 * kWarps, 0, params);
  });
}

}  // namespace llamita
