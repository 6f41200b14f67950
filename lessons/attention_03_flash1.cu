// Step 3: FlashAttention as first published (Dao et al., arXiv 2205.14135, algorithm 1): the outer loop takes
// a tile of K and V, the inner loop all tiles of Q; output O, row maximum m and row sum l live in global
// memory and are corrected by each inner step. Scores never leave the chip.
//
// Block: one head of one sequence, 4 warps of 16 rows; tiles of 64 queries and 64 keys; mma.sync. A thread
// corrects the elements of O that its fragments hold, the same ones each time, so no two threads meet. Shared
// memory: 3 x 64 x D x 2 bytes. Bound by: the traffic of O (fp32, read and written once a tile of keys) and
// by too few blocks: B H of them. Step 4 cures both by turning the loops inside out.
#include "hw/cuda/launch.h"
#include "lessons/attention.h"
#include "lessons/attention_parts.cuh"
#include "lessons/gemm_parts.cuh"

namespace llamita::lessons {

namespace {

constexpr int kRows = 64;
constexpr int kKeys = 64;
constexpr int kThreads = 128;

template <int kDim>
struct Storage {
  uint8_t q[kRows * kDim * 2];
  uint8_t k[kKeys * kDim * 2];
  uint8_t v[kKeys * kDim * 2];
};

// Merges the tile's output (weights relative to `highest`, not divided) into a row of O, m and l. `fresh`:
// there is nothing to merge with. All lanes of the warp come here; those of rows past the end store nothing.
template <int kDim>
__device__ __forceinline__ void merge(float* row_state, __nv_bfloat16* out, const float (&o)[kDim / 8][4],
                                      int half, float highest, float total, bool valid, bool fresh, bool last,
                                      int lane) {
  float* state = row_state + kDim;  // m and l behind the row of O
  const float m_old = fresh ? -INFINITY : state[0], l_old = fresh ? 0 : state[1];
  const float m = fmaxf(m_old, highest);
  const float old_weight = fresh ? 0 : ptx::exp2_approx(m_old - m) * l_old;
  const float new_weight = highest == -INFINITY ? 0 : ptx::exp2_approx(highest - m);
  const float l = old_weight + new_weight * total;
#pragma unroll
  for (int j = 0; j < kDim / 8; ++j) {
    auto* pair = reinterpret_cast<float2*>(row_state + 8 * j + lane % 4 * 2);
    const float2 old = fresh ? make_float2(0, 0) : *pair;
    const float x = (old_weight * old.x + new_weight * o[j][2 * half]) / l;
    const float y = (old_weight * old.y + new_weight * o[j][2 * half + 1]) / l;
    if (valid && last)
      *reinterpret_cast<uint32_t*>(out + 8 * j + lane % 4 * 2) = device::pack_bf16(x, y);
    else if (valid)
      *pair = make_float2(x, y);
  }
  __syncwarp();  // the row's four lanes have read m and l
  if (valid && lane % 4 == 0) state[0] = m, state[1] = l;
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, 1) flash1(const Attention p, float* workspace) {
  auto& s = shared_storage<Storage<kDim>>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.x, batch = blockIdx.y;
  const int q_stride = p.heads * kDim, kv_stride = p.kv_heads * kDim;
  const size_t q_first = (size_t(batch) * p.tokens * p.heads + head) * kDim;
  const size_t kv_first = (size_t(batch) * p.tokens * p.kv_heads + head / (p.heads / p.kv_heads)) * kDim;
  float* state = workspace + (size_t(batch) * p.heads + head) * p.tokens * (kDim + 2);
  const int row_tiles = (p.tokens + kRows - 1) / kRows, key_tiles = (p.tokens + kKeys - 1) / kKeys;
  for (int j = 0; j < key_tiles; ++j) {
    __syncthreads();  // nobody reads the former tile any more
    load_tile<kKeys, kDim, kThreads>(s.k, p.k + kv_first, j * kKeys, p.tokens, kv_stride);
    load_tile<kKeys, kDim, kThreads>(s.v, p.v + kv_first, j * kKeys, p.tokens, kv_stride);
    for (int i = p.causal ? j : 0; i < row_tiles; ++i) {
      __syncthreads();
      load_tile<kRows, kDim, kThreads>(s.q, p.q + q_first, i * kRows, p.tokens, q_stride);
      ptx::cp_async_commit();
      ptx::cp_async_wait<0>();
      __syncthreads();
      const int row = i * kRows + warp * 16;
      float scores[1][kKeys / 8][4], o[1][kDim / 8][4] = {}, highest[2], total[2];
      device::warp_scores<__nv_bfloat16, 1, kRows, kKeys, kDim>(scores, s.q, s.k, warp * 16, lane);
      mask_scores<kKeys>(scores[0], row, j * kKeys, p.tokens, p.causal, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half)
        highest[half] = device::tile_softmax(scores[0], half, p.scale * device::kLog2e, total[half]);
      device::warp_values<__nv_bfloat16, 1, kKeys, kDim>(o, scores, s.v, lane);
      const bool last = j == (p.causal ? i : key_tiles - 1);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int t = row + lane / 4 + 8 * half;
        const bool valid = t < p.tokens;
        const size_t at = valid ? t : 0;
        merge<kDim>(state + at * (kDim + 2), p.out + q_first + at * q_stride, o[0], half, highest[half],
                    total[half], valid, j == 0 || !valid, last, lane);
      }
    }
  }
}

template <int kDim>
void run(const Attention& p, const AttentionContext& context) {
  cuda::launch(flash1<kDim>,
               {.grid = dim3(p.heads, p.batch),
                .block = dim3(kThreads),
                .smem = smem_bytes<Storage<kDim>>(),
                .stream = context.stream},
               p, context.workspace);
}

}  // namespace

void attention_03_flash1(const Attention& p, const AttentionContext& context) {
  if (p.dim == 64)
    run<64>(p, context);
  else
    run<128>(p, context);
}

}  // namespace llamita::lessons
