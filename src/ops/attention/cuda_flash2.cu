// flash2_sm80: FlashAttention-2 (Dao, arXiv 2307.08691) for prefill, over the paged cache, for any mix of
// chunks: lessons/attention_04_flash2 as a production kernel with pages, cached prefixes, windows and more
// head dims.
//
// A block keeps a tile of query rows of one head and walks over the pages of its sequence, 64 keys each, in
// two stages by cp.async; O, maximum and sum stay in registers. Four warps of 32 rows (two m16 fragments, so
// that each fragment of K and V serves two multiplies), of 16 rows at 256 elements a head. Tiles before the
// window and past the diagonal are not visited. Shared memory: Q rows x D, K and V 2 x 64 x D of 16 bits, in
// panels of 64 columns and the 128-byte swizzle: 96 KB at D = 128. Bound by mma.sync's rate on Hopper.
//
// The grid has a block for every tile that sequences of T tokens in all can need; a block finds its sequence
// from q_start, so that nothing but T and B shapes the launch.
#include "ops/attention/mma_tiles.cuh"
#include "ops/attention/variants.h"

namespace llamita {

namespace {

using device::AttentionParams;

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kKeys = kPageTokens;

template <int kDim>
struct Tile {
  static constexpr int kBlocks = kDim <= 128 ? 2 : 1;  // m16 fragments a warp
  static constexpr int kRows = 16 * kBlocks * kWarps;
  static constexpr int kPanels = (kDim + 63) / 64;
  static constexpr int kRowPanel = kRows * device::kSwizzleRowBytes;  // bytes
  static constexpr int kKeyPanel = kKeys * device::kSwizzleRowBytes;
};

template <int kDim>
struct Shared {
  uint8_t q[Tile<kDim>::kPanels * Tile<kDim>::kRowPanel];
  uint8_t k[2][Tile<kDim>::kPanels * Tile<kDim>::kKeyPanel];
  uint8_t v[2][Tile<kDim>::kPanels * Tile<kDim>::kKeyPanel];
};

struct Work {
  int sequence = -1;
  int row0, rows;      // of the sequence's rows; all of them
  int first_token;     // of the sequence
  int first_position;  // of row 0 of the sequence
};

// Tile `index` of all sequences' tiles of kRows rows; sequence -1 when there are fewer. All threads of a
// warp.
template <int kRows>
__device__ __forceinline__ Work find_work(const AttentionParams& p, int index) {
  const int lane = threadIdx.x % 32;
  Work w;
  for (int base = 0; base < p.sequences; base += 32) {
    const int b = base + lane;
    const int rows = b < p.sequences ? p.q_start[b + 1] - p.q_start[b] : 0;
    const int tiles = (rows + kRows - 1) / kRows;
    int before = tiles;  // inclusive sum, then exclusive
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(0xffffffff, before, step);
      if (lane >= step) before += other;
    }
    const int all = __shfl_sync(0xffffffff, before, 31);
    before -= tiles;
    const unsigned mine = __ballot_sync(0xffffffff, index >= before && index < before + tiles);
    if (mine != 0) {
      const int owner = __ffs(static_cast<int>(mine)) - 1;
      w.sequence = base + owner;
      w.row0 = (index - __shfl_sync(0xffffffff, before, owner)) * kRows;
      w.rows = __shfl_sync(0xffffffff, rows, owner);
      w.first_token = p.q_start[w.sequence];
      w.first_position = p.kv_len[w.sequence] - w.rows;
      return w;
    }
    index -= all;
  }
  return w;
}

template <class Element, int kDim>
__global__ void __launch_bounds__(kThreads) flash2(const __grid_constant__ AttentionParams p) {
  constexpr int kBlocks = Tile<kDim>::kBlocks, kRows = Tile<kDim>::kRows;
  extern __shared__ __align__(1024) uint8_t smem[];
  auto& s = *reinterpret_cast<Shared<kDim>*>(smem);
  device::wait_for_predecessor();
  device::start_successor();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.x;
  // The last rows of a prompt see most keys: their blocks start first.
  const Work w = find_work<kRows>(p, static_cast<int>(gridDim.y - 1 - blockIdx.y));
  if (w.sequence < 0) return;
  const int row = w.row0 + warp * 16 * kBlocks;  // the warp's first, in the sequence
  const int end_row = min(w.row0 + kRows, w.rows);
  const int first_tile = p.first_key(w.first_position + w.row0) / kKeys;
  const int keys = w.first_position + w.rows;  // of the sequence
  const int end_tile = (p.end_key(w.first_position + end_row - 1, keys) + kKeys - 1) / kKeys;
  const int32_t* pages = p.block_table + w.sequence * p.table_stride;

  const auto load_stage = [&](int tile) {
    const int stage = tile % 2, inside = min(kKeys, keys - tile * kKeys);
    const int64_t page = pages[tile];
    const int kv_head = head / p.group;
    device::load_rows<kThreads, kKeys, kDim>(
        s.k[stage], device::page_of<Element>(p.k_cache, p.k_page_stride, page, kv_head, kDim), kDim, inside);
    device::load_rows<kThreads, kKeys, kDim>(
        s.v[stage], device::page_of<Element>(p.v_cache, p.v_page_stride, page, kv_head, kDim), kDim, inside);
  };
  const int64_t q_first = (w.first_token + w.row0) * p.q_stride + int64_t{head} * kDim;
  const bool same_type = p.q_is_like_cache();
  if (same_type)
    device::load_rows<kThreads, kRows, kDim>(s.q, static_cast<const Element*>(p.q) + q_first, p.q_stride,
                                             w.rows - w.row0);
  else
    device::convert_rows<kThreads, kRows, kDim, Element>(s.q, p, q_first, w.rows - w.row0);
  load_stage(first_tile);
  ptx::cp_async_commit();

  float o[kBlocks][kDim / 8][4] = {};
  device::RowState state[kBlocks];
  const float scale_log2 = p.scale * device::kLog2e;
  for (int tile = first_tile; tile < end_tile; ++tile) {
    if (tile + 1 < end_tile) load_stage(tile + 1);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    float scores[kBlocks][kKeys / 8][4];
    device::warp_scores<Element, kBlocks, kRows, kKeys, kDim>(scores, s.q, s.k[tile % 2], warp * 16 * kBlocks,
                                                              lane);
    const int position = w.first_position + row, key0 = tile * kKeys;
    const bool past_diagonal = key0 + kKeys > p.end_key(position, keys);
    const bool before_window = key0 < p.first_key(position + 16 * kBlocks - 1);
    if (past_diagonal || before_window) {
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) device::mask_paged(scores[m], p, position + 16 * m, keys, key0, lane);
    }
    device::online_softmax_fragments(scores, o, state, scale_log2);
    device::warp_values<Element, kBlocks, kKeys, kDim>(o, scores, s.v[tile % 2], lane);
    __syncthreads();  // before the stage is loaded again
  }
  ptx::cp_async_wait<0>();

#pragma unroll
  for (int m = 0; m < kBlocks; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at_row = row + 16 * m + 8 * half + lane / 4;
      const float inverse = 1 / device::quad_sum(state[m].total[half]);
      if (at_row >= w.rows) continue;
      const int64_t to = (w.first_token + at_row) * p.out_stride + int64_t{head} * kDim + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
        device::store_pair(p.out, p.out_dtype, to + 8 * j, o[m][j][2 * half] * inverse,
                           o[m][j][2 * half + 1] * inverse);
    }
}

}  // namespace

bool attention_flash2_supports(const AttentionArgs& args) {
  // Pairs of results are stored at once.
  return has_mma_head_dim(args.q.dim(2)) && args.k_cache.dtype() != DType::f32 && cache_is_aligned(args) &&
         args.out.stride(0) % 2 == 0 && reinterpret_cast<uintptr_t>(args.out.data()) % 8 == 0;
}

void attention_cuda_flash2(const AttentionArgs& args, Context& context) {
  const int64_t T = args.q.dim(0), B = args.kv_len.dim(0), H = args.q.dim(1);
  if (T == 0 || B == 0) return;
  with_head_dim(args.k_cache.dtype(), args.q.dim(2), [&]<class Element, int kDim>() {
    // Every sequence may end in a tile that is not full.
    const int64_t tiles = T / Tile<kDim>::kRows + std::min(B, T);
    launch(context, flash2<Element, kDim>, dim3(static_cast<unsigned>(H), static_cast<unsigned>(tiles)),
           kThreads, sizeof(Shared<kDim>), attention_params(args));
  });
}

}  // namespace llamita
