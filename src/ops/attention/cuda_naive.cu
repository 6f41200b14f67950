// naive: the definition, as the first step of the ladder: a block a query row and head, all its scores in
// shared memory, three passes (scores and maximum, exponentials and sum, weighted values). Any head dim, any
// type, as many keys as shared memory holds scores. Bound by load transactions (a thread reads a row of K by
// itself) and by L2, which serves K and V anew for every row.
#include "ops/attention/cuda_params.cuh"
#include "ops/attention/variants.h"
#include "ops/cuda/reduce.cuh"

namespace llamita {

namespace {

using device::AttentionParams;

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kMostKeys = 40000;  // 160,000 bytes: sm_80 has 163 KB a block

template <class Op>
__device__ float reduce_block(float x, float* parts, Op op) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = op(x, __shfl_xor_sync(0xffffffff, x, step));
  __syncthreads();  // the parts of an earlier reduction have been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) x = op(x, parts[warp]);
  return x;
}

__global__ void __launch_bounds__(kThreads) naive(const __grid_constant__ AttentionParams p) {
  extern __shared__ float scores[];  // of the keys the row sees
  __shared__ float parts[kWarps];
  device::wait_for_predecessor();
  device::start_successor();
  const int token = blockIdx.x, head = blockIdx.y, kv_head = head / p.group;
  if (token >= p.q_start[p.sequences]) return;
  int b = 0;
  while (b + 1 < p.sequences && p.q_start[b + 1] <= token) ++b;
  const int keys = p.kv_len[b], position = keys - (p.q_start[b + 1] - token);
  const int first = p.first_key(position), end = p.end_key(position, keys);
  const int64_t q_at = token * p.q_stride + int64_t{head} * p.head_dim;
  const auto row_of = [&](int key, int64_t page_stride) {
    return p.block_table[b * p.table_stride + key / kPageTokens] * page_stride +
           (int64_t{kv_head} * kPageTokens + key % kPageTokens) * p.head_dim;
  };

  float highest = -INFINITY, total = 0;
  for (int key = first + static_cast<int>(threadIdx.x); key < end; key += kThreads) {
    const int64_t row = row_of(key, p.k_page_stride);
    float dot = 0;
    for (int d = 0; d < p.head_dim; ++d)
      dot += device::load_float(p.q, p.q_dtype, q_at + d) *
             device::load_float(p.k_cache, p.cache_dtype, row + d);
    scores[key - first] = dot * p.scale;
    highest = fmaxf(highest, dot * p.scale);
  }
  highest = reduce_block(highest, parts, [](float a, float c) { return fmaxf(a, c); });
  for (int key = first + static_cast<int>(threadIdx.x); key < end; key += kThreads)
    total += scores[key - first] = expf(scores[key - first] - highest);
  total = reduce_block(total, parts, [](float a, float c) { return a + c; });
  for (int d = threadIdx.x; d < p.head_dim; d += kThreads) {
    float sum = 0;
    for (int key = first; key < end; ++key)
      sum += scores[key - first] *
             device::load_float(p.v_cache, p.cache_dtype, row_of(key, p.v_page_stride) + d);
    device::store_float(p.out, p.out_dtype, token * p.out_stride + int64_t{head} * p.head_dim + d,
                        sum / total);
  }
}

}  // namespace

bool attention_naive_supports(const AttentionArgs& args) {
  return args.plan->max_kv_len <= kMostKeys && args.q.dim(1) <= 65535;
}

void attention_cuda_naive(const AttentionArgs& args, Context& context) {
  // Whole vectors: the compiler reads the scores in fours.
  const size_t scores = ceil_div(args.plan->max_kv_len, 4) * size_t{4};
  launch(context, naive, dim3(static_cast<unsigned>(args.q.dim(0)), static_cast<unsigned>(args.q.dim(1))),
         kThreads, scores * sizeof(float), attention_params(args));
}

}  // namespace llamita
