// Step 2: one pass. A running maximum m, sum l and output o are corrected whenever a larger score comes:
// with m' = max(m, s), l' = l e^(m - m') + e^(s - m') and o' = o e^(m - m') + v e^(s - m'). No row of scores
// is ever stored, so T is bounded by nothing. (Milakov and Gimelshein, arXiv 1805.02867.)
//
// Warp: one query row; a lane holds D / 32 neighbouring dimensions of q and o, so rows of K and V are read
// coalesced. Block: 8 rows that share K and V through L1. Bound by: latency; a key costs five shuffles, an
// exponential and a dozen multiplies, one after the other.
#include "hw/cuda/launch.h"
#include "lessons/attention.h"

namespace llamita::lessons {

namespace {

constexpr int kWarps = 8;

template <int kDim>
__device__ __forceinline__ void load(float (&to)[kDim / 32], const __nv_bfloat16* row, int lane) {
#pragma unroll
  for (int i = 0; i < kDim / 64; ++i) {
    const auto pair = reinterpret_cast<const __nv_bfloat162*>(row)[lane * (kDim / 64) + i];
    const float2 wide = __bfloat1622float2(pair);
    to[2 * i] = wide.x;
    to[2 * i + 1] = wide.y;
  }
}

template <int kDim>
__global__ void __launch_bounds__(32 * kWarps) online_softmax(Attention p) {
  const int lane = threadIdx.x % 32, head = blockIdx.y, batch = blockIdx.z;
  const int t = blockIdx.x * kWarps + threadIdx.x / 32;
  if (t >= p.tokens) return;
  const int keys = p.causal ? t + 1 : p.tokens;
  const size_t at = ((size_t(batch) * p.tokens + t) * p.heads + head) * kDim;
  const size_t stride = size_t(p.kv_heads) * kDim;
  const size_t first = (size_t(batch) * p.tokens * p.kv_heads + head / (p.heads / p.kv_heads)) * size_t(kDim);
  float q[kDim / 32], k[kDim / 32], v[kDim / 32], o[kDim / 32] = {};
  load<kDim>(q, p.q + at, lane);
  float highest = -INFINITY, total = 0;
  for (int key = 0; key < keys; ++key) {
    load<kDim>(k, p.k + first + key * stride, lane);
    load<kDim>(v, p.v + first + key * stride, lane);
    float score = 0;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) score += q[i] * k[i];
    for (int step = 16; step > 0; step /= 2) score += __shfl_xor_sync(0xffffffff, score, step);
    score *= p.scale;
    const float next = fmaxf(highest, score);
    const float correction = expf(highest - next), weight = expf(score - next);
    highest = next;
    total = total * correction + weight;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) o[i] = o[i] * correction + v[i] * weight;
  }
#pragma unroll
  for (int i = 0; i < kDim / 64; ++i)
    reinterpret_cast<__nv_bfloat162*>(p.out + at)[lane * (kDim / 64) + i] =
        __floats2bfloat162_rn(o[2 * i] / total, o[2 * i + 1] / total);
}

}  // namespace

void attention_02_online_softmax(const Attention& p, const AttentionContext& context) {
  const cuda::LaunchConfig config{.grid = dim3((p.tokens + kWarps - 1) / kWarps, p.heads, p.batch),
                                  .block = dim3(32 * kWarps),
                                  .stream = context.stream};
  cuda::launch(p.dim == 64 ? online_softmax<64> : online_softmax<128>, config, p);
}

}  // namespace llamita::lessons
