// A warp a query row and head, online softmax over one key at a time: any head dim up to 512, any type. It
// serves what the tensor-core kernels leave, and checks them.
#include "ops/attention/cuda_params.cuh"
#include "ops/attention/variants.h"
#include "ops/cuda/reduce.cuh"

namespace llamita {

namespace {

using device::AttentionParams;

constexpr int kWarps = 4;
constexpr int kMostPerLane = 16;  // elements of a head: D <= 512

__device__ int sequence_of(const AttentionParams& p, int token) {
  int b = 0;
  while (b + 1 < p.sequences && p.q_start[b + 1] <= token) ++b;
  return b;
}

__global__ void __launch_bounds__(32 * kWarps) warp_a_row(const __grid_constant__ AttentionParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int token = static_cast<int>(item / p.heads), head = static_cast<int>(item % p.heads);
  if (token >= p.q_start[p.sequences]) return;
  const int b = sequence_of(p, token);
  const int position = p.kv_len[b] - (p.causal ? p.q_start[b + 1] - token : 1);
  const int kv_head = head / p.group;
  float q[kMostPerLane], o[kMostPerLane] = {};
#pragma unroll
  for (int i = 0; i < kMostPerLane; ++i) {
    const int d = lane + 32 * i;
    const int64_t at = token * p.q_stride + int64_t{head} * p.head_dim + d;
    q[i] = d < p.head_dim ? device::load_float(p.q, p.q_dtype, at) * p.scale : 0.0f;
  }
  float highest = -INFINITY, total = 0;
  for (int key = p.first_key(position); key <= position; ++key) {
    const int64_t page = p.block_table[b * p.table_stride + key / kPageTokens];
    const int64_t row = (int64_t{kv_head} * kPageTokens + key % kPageTokens) * p.head_dim;
    float dot = 0;
#pragma unroll
    for (int i = 0; i < kMostPerLane; ++i) {
      const int d = lane + 32 * i;
      if (d < p.head_dim)
        dot += q[i] * device::load_float(p.k_cache, p.cache_dtype, page * p.k_page_stride + row + d);
    }
    dot = device::warp_sum(dot);
    const float now = fmaxf(highest, dot), correction = expf(highest - now), weight = expf(dot - now);
    highest = now;
    total = total * correction + weight;
#pragma unroll
    for (int i = 0; i < kMostPerLane; ++i) {
      const int d = lane + 32 * i;
      if (d < p.head_dim)
        o[i] = o[i] * correction +
               weight * device::load_float(p.v_cache, p.cache_dtype, page * p.v_page_stride + row + d);
    }
  }
#pragma unroll
  for (int i = 0; i < kMostPerLane; ++i) {
    const int d = lane + 32 * i;
    if (d < p.head_dim)
      device::store_float(p.out, p.out_dtype, token * p.out_stride + int64_t{head} * p.head_dim + d,
                          o[i] / total);
  }
}

}  // namespace

bool attention_cuda_simple_supports(const AttentionArgs& args) { return args.q.dim(2) <= 32 * kMostPerLane; }

void attention_cuda_simple(const AttentionArgs& args, Context& context) {
  launch(context, warp_a_row, dim3(ceil_div(args.q.dim(0) * args.q.dim(1), kWarps)), 32 * kWarps, 0,
         attention_params(args));
}

}  // namespace llamita
