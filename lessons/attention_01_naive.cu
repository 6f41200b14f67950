// Step 1: the definition. One block a query row: scores to shared memory, their maximum, exponentials and
// sum, then the weighted sum of V.
//
// Block: 128 threads; a thread owns whole keys in the first passes and, in the last, output dimension
// thread % D over every (128 / D)th key. Shared memory: T scores. Bound by: load transactions (a thread reads
// a row of K by itself) and by L2, which serves K and V anew for every query.
#include "hw/cuda/launch.h"
#include "lessons/attention.h"

namespace llamita::lessons {

namespace {

constexpr int kThreads = 128;

template <class Op>
__device__ float reduce_block(float value, float* scratch, Op op) {
  for (int step = 16; step > 0; step /= 2) value = op(value, __shfl_xor_sync(0xffffffff, value, step));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) value = op(value, scratch[warp]);
  __syncthreads();
  return value;
}

__global__ void naive(Attention p) {
  extern __shared__ float scores[];  // T
  __shared__ float scratch[kThreads];
  const int t = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int kv_head = head / (p.heads / p.kv_heads);
  const int keys = p.causal ? t + 1 : p.tokens;
  const size_t at = ((size_t(batch) * p.tokens + t) * p.heads + head) * p.dim;
  const size_t stride = size_t(p.kv_heads) * p.dim;
  const size_t first = (size_t(batch) * p.tokens * p.kv_heads + kv_head) * p.dim;

  float highest = -INFINITY;
  for (int key = threadIdx.x; key < keys; key += kThreads) {
    float sum = 0;
    for (int d = 0; d < p.dim; ++d)
      sum += __bfloat162float(p.q[at + d]) * __bfloat162float(p.k[first + key * stride + d]);
    scores[key] = sum * p.scale;
    highest = fmaxf(highest, scores[key]);
  }
  highest = reduce_block(highest, scratch, [](float a, float b) { return fmaxf(a, b); });
  float total = 0;
  for (int key = threadIdx.x; key < keys; key += kThreads) total += scores[key] = expf(scores[key] - highest);
  total = reduce_block(total, scratch, [](float a, float b) { return a + b; });

  const int d = threadIdx.x % p.dim, part = threadIdx.x / p.dim;
  float sum = 0;
  for (int key = part; key < keys; key += kThreads / p.dim)
    sum += scores[key] * __bfloat162float(p.v[first + key * stride + d]);
  scratch[threadIdx.x] = sum;
  __syncthreads();
  if (part > 0) return;
  for (int other = d + p.dim; other < kThreads; other += p.dim) sum += scratch[other];
  p.out[at + d] = __float2bfloat16(sum / total);
}

}  // namespace

void attention_01_naive(const Attention& p, const AttentionContext& context) {
  cuda::launch(naive,
               {.grid = dim3(p.tokens, p.heads, p.batch),
                .block = dim3(kThreads),
                .smem = p.tokens * sizeof(float),
                .stream = context.stream},
               p);
}

}  // namespace llamita::lessons
