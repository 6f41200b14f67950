// rope_table: a thread an angle, with the full-range sine and cosine of fp32. rope: a thread a rotated pair.
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/rope/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 128;

struct TableParams {
  const int32_t* positions;
  const float* inv_freq;
  float* out;
  int64_t out_stride;
  int64_t angles;  // T * pairs
  int pairs;
  float scale;
};

__global__ void __launch_bounds__(kThreads) rope_angles(const TableParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.angles) return;
  const int64_t t = i / p.pairs;
  const int pair = static_cast<int>(i % p.pairs);
  float sine, cosine;
  sincosf(static_cast<float>(p.positions[t]) * p.inv_freq[pair], &sine, &cosine);
  float* row = p.out + t * p.out_stride;
  row[pair] = cosine * p.scale;
  row[p.pairs + pair] = sine * p.scale;
}

template <class Element>
struct RopeParams {
  Element* x;
  const float* cos_sin;
  int64_t x_stride, table_stride;
  int64_t rotations;  // T * H * pairs
  int heads, head_dim, pairs;
};

template <class Element>
__global__ void __launch_bounds__(kThreads) rope_pairs(const RopeParams<Element> p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.rotations) return;
  const int pair = static_cast<int>(i % p.pairs);
  const int64_t row = i / p.pairs, t = row / p.heads;
  const float cosine = p.cos_sin[t * p.table_stride + pair];
  const float sine = p.cos_sin[t * p.table_stride + p.pairs + pair];
  Element* x = p.x + t * p.x_stride + row % p.heads * p.head_dim + pair;
  const float first = device::to_f32(x[0]), second = device::to_f32(x[p.pairs]);
  x[0] = device::from_f32<Element>(first * cosine - second * sine);
  x[p.pairs] = device::from_f32<Element>(second * cosine + first * sine);
}

}  // namespace

void rope_table_cuda(const RopeTableArgs& args, Context& context) {
  const int64_t pairs = args.inv_freq.dim(0);
  const TableParams params{.positions = args.positions.ptr<int32_t>(),
                           .inv_freq = args.inv_freq.ptr<float>(),
                           .out = args.out.ptr<float>(),
                           .out_stride = args.out.stride(0),
                           .angles = args.positions.dim(0) * pairs,
                           .pairs = static_cast<int>(pairs),
                           .scale = args.scale};
  launch(context, rope_angles, dim3(ceil_div(params.angles, kThreads)), kThreads, 0, params);
}

void rope_cuda(const RopeArgs& args, Context& context) {
  with_float_type(args.x.dtype(), [&]<class Element>() {
    const int64_t pairs = args.cos_sin.dim(1) / 2;
    const RopeParams<Element> params{.x = static_cast<Element*>(args.x.data()),
                                     .cos_sin = args.cos_sin.ptr<float>(),
                                     .x_stride = args.x.stride(0),
                                     .table_stride = args.cos_sin.stride(0),
                                     .rotations = args.x.dim(0) * args.x.dim(1) * pairs,
                                     .heads = static_cast<int>(args.x.dim(1)),
                                     .head_dim = static_cast<int>(args.x.dim(2)),
                                     .pairs = static_cast<int>(pairs)};
    launch(context, rope_pairs<Element>, dim3(ceil_div(params.rotations, kThreads)), kThreads, 0, params);
  });
}

}  // namespace llamita
