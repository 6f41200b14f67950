// flash1_sm80: FlashAttention as first published (Dao et al., arXiv 2205.14135, algorithm 1) over the paged
// cache: the outer loop takes a page of keys and values, the inner loop all tiles of rows that see it;
// output, row maximum and row sum live in global memory and each inner step corrects them. It is here to be
// compared with flash2_sm80, which turns the loops inside out, in the live engine.
//
// Block: one head of one sequence, 4 warps of 16 rows; tiles of 64 rows and 64 keys; mma.sync. A thread
// corrects the elements of O that its fragments hold, the same ones each time, so no two threads meet. State:
// per row and head D fp32 of O, then m and l; the step after which a row sees no more keys writes the result.
// Shared memory: 3 x 64 x D x 2 bytes. Bound by O's traffic (fp32, read and written once a page) and by too
// few blocks: B H of them.
#include "ops/attention/mma_tiles.cuh"
#include "ops/attention/variants.h"

namespace llamita {

namespace {

using device::AttentionParams;

constexpr int kRows = 64;
constexpr int kKeys = kPageTokens;
constexpr int kThreads = 128;

template <int kDim>
struct Shared {
  static constexpr int kPanels = (kDim + 63) / 64;
  uint8_t q[kPanels * kRows * device::kSwizzleRowBytes];
  uint8_t k[kPanels * kKeys * device::kSwizzleRowBytes];
  uint8_t v[kPanels * kKeys * device::kSwizzleRowBytes];
};

// Merges a page's output (weights relative to `highest`, not divided) into a row of O, m and l, and writes
// the result when the page is the row's last. `fresh`: there is nothing to merge with. All lanes of the warp
// come here; those of rows past the end store nothing.
template <int kDim>
__device__ __forceinline__ void merge(const AttentionParams& p, float* row_state, int64_t out_at,
                                      const float (&o)[kDim / 8][4], int half, float highest, float total,
                                      bool valid, bool fresh, bool last, int lane) {
  float* state = row_state + kDim;  // m and l behind the row of O
  const float m_old = fresh ? -INFINITY : state[0], l_old = fresh ? 0 : state[1];
  const float m = fmaxf(m_old, highest);
  const float old_weight = device::weight_of(m_old, m) * l_old, new_weight = device::weight_of(highest, m);
  const float l = old_weight + new_weight * total;
  const float inverse = l > 0 ? 1 / l : 0;  // the window may begin behind this page
#pragma unroll
  for (int j = 0; j < kDim / 8; ++j) {
    auto* pair = reinterpret_cast<float2*>(row_state + 8 * j + lane % 4 * 2);
    const float2 old = fresh ? make_float2(0, 0) : *pair;
    const float x = (old_weight * old.x + new_weight * o[j][2 * half]) * inverse;
    const float y = (old_weight * old.y + new_weight * o[j][2 * half + 1]) * inverse;
    if (valid && last)
      device::store_pair(p.out, p.out_dtype, out_at + 8 * j + lane % 4 * 2, x, y);
    else if (valid)
      *pair = make_float2(x, y);
  }
  __syncwarp();  // the row's four lanes have read m and l
  if (valid && lane % 4 == 0) {
    state[0] = m;
    state[1] = l;
  }
}

template <class Element, int kDim>
__global__ void __launch_bounds__(kThreads) flash1(const __grid_constant__ AttentionParams p, float* states) {
  extern __shared__ __align__(1024) uint8_t smem[];
  auto& s = *reinterpret_cast<Shared<kDim>*>(smem);
  device::wait_for_predecessor();
  device::start_successor();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.x, b = blockIdx.y;
  const int first_token = p.q_start[b], rows = p.q_start[b + 1] - first_token, keys = p.kv_len[b];
  const int position0 = keys - rows, kv_head = head / p.group;
  if (rows == 0) return;
  const auto first_page = [&](int row) { return p.first_key(position0 + row) / kKeys; };
  const auto last_page = [&](int row) { return (p.end_key(position0 + row, keys) - 1) / kKeys; };
  const int32_t* pages = p.block_table + b * p.table_stride;
  const int row_tiles = (rows + kRows - 1) / kRows;
  for (int page = first_page(0); page <= last_page(rows - 1); ++page) {
    const int inside = min(kKeys, keys - page * kKeys);
    __syncthreads();  // nobody reads the former page any more
    device::load_rows<kThreads, kKeys, kDim>(
        s.k, device::page_of<Element>(p.k_cache, p.k_page_stride, pages[page], kv_head, kDim), kDim, inside);
    device::load_rows<kThreads, kKeys, kDim>(
        s.v, device::page_of<Element>(p.v_cache, p.v_page_stride, pages[page], kv_head, kDim), kDim, inside);
    for (int tile = 0; tile < row_tiles; ++tile) {
      const int row0 = tile * kRows, tile_end = min(row0 + kRows, rows);
      if (page < first_page(row0) || page > last_page(tile_end - 1)) continue;
      __syncthreads();  // nobody reads the former rows any more
      const int64_t q_first = (first_token + row0) * p.q_stride + int64_t{head} * kDim;
      if (p.q_is_like_cache())
        device::load_rows<kThreads, kRows, kDim>(s.q, static_cast<const Element*>(p.q) + q_first, p.q_stride,
                                                 rows - row0);
      else
        device::convert_rows<kThreads, kRows, kDim, Element>(s.q, p, q_first, rows - row0);
      ptx::cp_async_commit();
      ptx::cp_async_wait<0>();
      __syncthreads();
      float scores[1][kKeys / 8][4], o[1][kDim / 8][4] = {}, highest[2], total[2];
      device::warp_scores<Element, 1, kRows, kKeys, kDim>(scores, s.q, s.k, warp * 16, lane);
      device::mask_paged(scores[0], p, position0 + row0 + warp * 16, keys, page * kKeys, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half)
        highest[half] = device::tile_softmax(scores[0], half, p.scale * device::kLog2e, total[half]);
      device::warp_values<Element, 1, kKeys, kDim>(o, scores, s.v, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + warp * 16 + lane / 4 + 8 * half;
        const bool valid = row < rows;
        const int64_t token = first_token + (valid ? row : 0);
        merge<kDim>(p, states + (token * p.heads + head) * (kDim + 2),
                    token * p.out_stride + int64_t{head} * kDim, o[0], half, highest[half], total[half],
                    valid, page == first_page(row0) || !valid, page == last_page(tile_end - 1), lane);
      }
    }
  }
}

}  // namespace

// Results are stored in pairs, states read in pairs.
bool attention_flash1_supports(const AttentionArgs& args) { return attention_flash2_supports(args); }

int64_t attention_flash1_scratch(const AttentionArgs& args, const Caps&) {
  return args.q.dim(0) * args.q.dim(1) * (args.q.dim(2) + 2) * 4;
}

void attention_cuda_flash1(const AttentionArgs& args, Context& context) {
  const int64_t T = args.q.dim(0), B = args.kv_len.dim(0), H = args.q.dim(1);
  if (T == 0 || B == 0) return;
  const Arena::Scope scope(context.arena());
  float* states = context.arena().take(DType::f32, {T, H, args.q.dim(2) + 2}).ptr<float>();
  with_head_dim(args.k_cache.dtype(), args.q.dim(2), [&]<class Element, int kDim>() {
    launch(context, flash1<Element, kDim>, dim3(static_cast<unsigned>(H), static_cast<unsigned>(B)), kThreads,
           sizeof(Shared<kDim>), attention_params(args), states);
  });
}

}  // namespace llamita
