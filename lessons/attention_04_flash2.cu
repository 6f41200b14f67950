// Step 4: FlashAttention-2 (Dao, arXiv 2307.08691): the loops turned inside out. A block keeps its queries
// and walks over K and V; O, m and l stay in registers, O is divided by l once at the end, and blocks are as
// many as there are tiles of queries.
//
// Block: 128 queries of one head, 4 warps of 32 rows (two m16 fragments, so each fragment of K and V that
// ldmatrix brings serves two mma.sync); tiles of 64 keys in two stages by cp.async. Causal: tiles past the
// diagonal are skipped, the longest rows start first. Shared memory: Q 128 x D, K and V 2 x 64 x D each,
// bf16: 96 KB at D = 128, two blocks an SM. Bound by: mma.sync's rate on Hopper (about 60 % of wgmma's), and
// by the softmax, which no warp overlaps with its own multiplies.
#include "hw/cuda/launch.h"
#include "lessons/attention.h"
#include "lessons/attention_parts.cuh"
#include "lessons/gemm_parts.cuh"

namespace llamita::lessons {

namespace {

constexpr int kBlocks = 2;  // m16 fragments a warp
constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 16 * kBlocks * kWarps;
constexpr int kKeys = 64;

template <int kDim>
struct Storage {
  uint8_t q[kRows * kDim * 2];
  uint8_t k[2][kKeys * kDim * 2];
  uint8_t v[2][kKeys * kDim * 2];
};

template <int kDim>
__device__ __forceinline__ void store_rows(__nv_bfloat16* head, const float (&o)[kBlocks][kDim / 8][4],
                                           const device::RowState (&state)[kBlocks], int row, int tokens,
                                           size_t stride, int lane) {
#pragma unroll
  for (int m = 0; m < kBlocks; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = row + 16 * m + 8 * half + lane / 4;
      const float inverse = 1 / device::quad_sum(state[m].total[half]);
      if (t >= tokens) continue;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
        *reinterpret_cast<uint32_t*>(head + size_t(t) * stride + 8 * j + lane % 4 * 2) =
            device::pack_bf16(o[m][j][2 * half] * inverse, o[m][j][2 * half + 1] * inverse);
    }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads) flash2(const Attention p) {
  auto& s = shared_storage<Storage<kDim>>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.x, batch = blockIdx.y;
  const int row0 = (gridDim.z - 1 - blockIdx.z) * kRows, row = row0 + warp * 16 * kBlocks;
  const int q_stride = p.heads * kDim, kv_stride = p.kv_heads * kDim;
  const size_t q_first = (size_t(batch) * p.tokens * p.heads + head) * kDim;
  const size_t kv_first = (size_t(batch) * p.tokens * p.kv_heads + head / (p.heads / p.kv_heads)) * kDim;
  const int seen = p.causal ? min(p.tokens, row0 + kRows) : p.tokens;  // keys
  const int tiles = (seen + kKeys - 1) / kKeys;

  const auto load_stage = [&](int tile) {
    load_tile<kKeys, kDim, kThreads>(s.k[tile % 2], p.k + kv_first, tile * kKeys, p.tokens, kv_stride);
    load_tile<kKeys, kDim, kThreads>(s.v[tile % 2], p.v + kv_first, tile * kKeys, p.tokens, kv_stride);
  };
  load_tile<kRows, kDim, kThreads>(s.q, p.q + q_first, row0, p.tokens, q_stride);
  load_stage(0);
  ptx::cp_async_commit();

  float o[kBlocks][kDim / 8][4] = {};
  device::RowState state[kBlocks];
  const float scale_log2 = p.scale * device::kLog2e;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load_stage(tile + 1);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    float scores[kBlocks][kKeys / 8][4];
    device::warp_scores<__nv_bfloat16, kBlocks, kRows, kKeys, kDim>(scores, s.q, s.k[tile % 2],
                                                                    warp * 16 * kBlocks, lane);
    const int end = (tile + 1) * kKeys;
    if (end > p.tokens || (p.causal && end > row + 1)) {
#pragma unroll
      for (int m = 0; m < kBlocks; ++m)
        mask_scores<kKeys>(scores[m], row + 16 * m, tile * kKeys, p.tokens, p.causal, lane);
    }
    device::online_softmax_fragments(scores, o, state, scale_log2);
    device::warp_values<__nv_bfloat16, kBlocks, kKeys, kDim>(o, scores, s.v[tile % 2], lane);
    __syncthreads();  // before the stage is loaded again
  }
  store_rows<kDim>(p.out + q_first, o, state, row, p.tokens, q_stride, lane);
}

template <int kDim>
void run(const Attention& p, const AttentionContext& context) {
  cuda::launch(flash2<kDim>,
               {.grid = dim3(p.heads, p.batch, (p.tokens + kRows - 1) / kRows),
                .block = dim3(kThreads),
                .smem = smem_bytes<Storage<kDim>>(),
                .stream = context.stream},
               p);
}

}  // namespace

void attention_04_flash2(const Attention& p, const AttentionContext& context) {
  if (p.dim == 64)
    run<64>(p, context);
  else
    run<128>(p, context);
}

}  // namespace llamita::lessons
