// One block a row, fp32 sums. Bound by memory; a row of a decode step is bound by latency, so rows of up to
// 8192 in whole vectors are read once, all loads at a time, and the weights before the predecessor has ended;
// other rows are read twice, the second time from L1.
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
  device::start_successor();
  device::wait_for_predecessor();
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

// A thread keeps kPieces vectors of four, 4 * blockDim elements apart.
template <class Out, NormKind kKind, int kPieces>
__global__ void __launch_bounds__(32 * kWarps) norm_vectors(const NormParams<Out> p) {
  device::start_successor();
  const int count = p.columns / 4;
  const auto load = [&](const float* from, float4(&to)[kPieces]) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = threadIdx.x + i * 32 * kWarps;
      to[i] = at < count ? reinterpret_cast<const float4*>(from)[at] : float4{0, 0, 0, 0};
    }
  };
  float4 weight[kPieces], x[kPieces];
  load(p.weight, weight);
  device::wait_for_predecessor();
  load(p.x + blockIdx.x * p.x_stride, x);
  float mean = 0;
  if constexpr (kKind == NormKind::layer) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) sum += x[i].x + x[i].y + x[i].z + x[i].w;
    mean = device::block_sum<kWarps>(sum) / static_cast<float>(p.columns);
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      if (static_cast<int>(threadIdx.x) + i * 32 * kWarps < count)
        x[i] = {x[i].x - mean, x[i].y - mean, x[i].z - mean, x[i].w - mean};
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
    squares += x[i].x * x[i].x + x[i].y * x[i].y + x[i].z * x[i].z + x[i].w * x[i].w;
  squares = device::block_sum<kWarps>(squares);
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(p.columns) + p.eps);
  Out* out = p.out + blockIdx.x * p.out_stride;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = threadIdx.x + i * 32 * kWarps;
    if (at >= count) continue;
    float4 bias{0, 0, 0, 0};
    if (p.bias != nullptr) bias = reinterpret_cast<const float4*>(p.bias)[at];
    Out four[4] = {device::from_f32<Out>(x[i].x * inverse * weight[i].x + bias.x),
                   device::from_f32<Out>(x[i].y * inverse * weight[i].y + bias.y),
                   device::from_f32<Out>(x[i].z * inverse * weight[i].z + bias.z),
                   device::from_f32<Out>(x[i].w * inverse * weight[i].w + bias.w)};
    using Bits = std::conditional_t<sizeof(Out) == 2, uint2, uint4>;
    Bits bits;
    memcpy(&bits, four, sizeof bits);
    reinterpret_cast<Bits*>(out)[at] = bits;
  }
}

template <class Out, NormKind kKind>
void launch_norm(const NormParams<Out>& p, int64_t rows, Context& context) {
  const auto in_vectors = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const bool vectors = p.columns % 4 == 0 && p.columns <= 8192 && p.x_stride % 4 == 0 &&
                       p.out_stride % 4 == 0 && in_vectors(p.x) && in_vectors(p.weight) &&
                       in_vectors(p.bias) && in_vectors(p.out);
  const auto kernel = !vectors            ? norm_rows<Out, kKind>
                      : p.columns <= 4096 ? norm_vectors<Out, kKind, 4>
                                          : norm_vectors<Out, kKind, 8>;
  launch(context, kernel, dim3(static_cast<unsigned>(rows)), 32 * kWarps, 0, p);
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
    if (args.kind == NormKind::rms)
      launch_norm<Out, NormKind::rms>(params, args.x.dim(0), context);
    else
      launch_norm<Out, NormKind::layer>(params, args.x.dim(0), context);
  });
}

}  // namespace llamita
