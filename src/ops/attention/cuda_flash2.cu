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
#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "hw/cuda/device/ptx/math.cuh"
#include "ops/attention/cuda_params.cuh"
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

// kRows rows of a head, `stride` elements apart, to panels in shared memory. Rows from `rows` on become zero.
template <int kRows, int kDim, class Element>
__device__ __forceinline__ void load_tile(uint8_t* to, const Element* from, int64_t stride, int rows) {
  constexpr int kPieces = kDim / 8;  // of 16 bytes a row
#pragma unroll 4
  for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    const bool inside = row < rows;
    ptx::cp_async_16(
        to + piece / 8 * kRows * device::kSwizzleRowBytes + device::swizzled_piece(row, piece % 8),
        inside ? from + row * stride + piece * 8 : from, inside);
  }
}

// The same for queries of another type than the cache's.
template <int kRows, int kDim, class Element>
__device__ __forceinline__ void convert_tile(uint8_t* to, const AttentionParams& p, int64_t first, int rows) {
  for (int i = threadIdx.x; i < kRows * kDim / 2; i += kThreads) {
    const int row = i / (kDim / 2), d = i % (kDim / 2) * 2;
    float low = 0, high = 0;
    if (row < rows) {
      low = device::load_float(p.q, p.q_dtype, first + row * p.q_stride + d);
      high = device::load_float(p.q, p.q_dtype, first + row * p.q_stride + d + 1);
    }
    uint8_t* panel = to + d / 64 * kRows * device::kSwizzleRowBytes;
    *reinterpret_cast<uint32_t*>(panel + device::swizzled_byte(row, d % 64 * 2)) =
        device::pack2<Element>(low, high);
  }
}

template <class Element, int kDim>
__device__ __forceinline__ void warp_scores(float (&s)[Tile<kDim>::kBlocks][kKeys / 8][4], const uint8_t* q,
                                            const uint8_t* k, int row, int lane) {
  constexpr int kBlocks = Tile<kDim>::kBlocks;
#pragma unroll
  for (int m = 0; m < kBlocks; ++m)
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) s[m][j][e] = 0;
#pragma unroll 2
  for (int k16 = 0; k16 < kDim / 16; ++k16) {
    const int panel = k16 / 4;
    uint32_t a[kBlocks][4];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m)
      device::load_a_fragment(a[m], q + panel * Tile<kDim>::kRowPanel, row + 16 * m, k16 % 4, lane);
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
      uint32_t b[4];
      device::load_b_fragments(b, k + panel * Tile<kDim>::kKeyPanel, 16 * j, k16 % 4, lane);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        ptx::mma_m16n8k16<Element>(s[m][2 * j], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(s[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// o += weights v: two neighbouring score fragments are one A fragment of 16 keys.
template <class Element, int kDim>
__device__ __forceinline__ void warp_values(float (&o)[Tile<kDim>::kBlocks][kDim / 8][4],
                                            const float (&s)[Tile<kDim>::kBlocks][kKeys / 8][4],
                                            const uint8_t* v, int lane) {
  constexpr int kBlocks = Tile<kDim>::kBlocks;
#pragma unroll
  for (int k16 = 0; k16 < kKeys / 16; ++k16) {
    uint32_t a[kBlocks][4];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &s[m][2 * k16 + i / 2][i % 2 * 2];
        a[m][i] = device::pack2<Element>(pair[0], pair[1]);
      }
#pragma unroll
    for (int j = 0; j < kDim / 16; ++j) {
      uint32_t b[4];
      const int key = 16 * k16 + (lane & 15), piece = 2 * (j % 4) + (lane >> 4);
      ptx::ldmatrix_x4_trans(b, v + j / 4 * Tile<kDim>::kKeyPanel + device::swizzled_piece(key, piece));
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        ptx::mma_m16n8k16<Element>(o[m][2 * j], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(o[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// Scores of keys that a row does not see become -inf. `position`: of fragment element 0 of lane 0, or of all.
__device__ __forceinline__ void mask_scores(float (&s)[kKeys / 8][4], const AttentionParams& p, int position,
                                            int key0, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int last = p.causal ? position + lane / 4 + 8 * half : position, first = p.first_key(last);
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = key0 + 8 * j + lane % 4 * 2 + e;
        if (key > last || key < first) s[j][2 * half + e] = -INFINITY;
      }
  }
}

// Of the rows that a thread holds; the sum is the thread's own part until the end.
template <int kBlocks>
struct RowState {
  float highest[kBlocks][2];
  float total[kBlocks][2];
};

// Scores to weights; corrects what was summed before.
template <int kDim>
__device__ __forceinline__ void online_softmax(float (&s)[Tile<kDim>::kBlocks][kKeys / 8][4],
                                               float (&o)[Tile<kDim>::kBlocks][kDim / 8][4],
                                               RowState<Tile<kDim>::kBlocks>& state, float scale_log2) {
#pragma unroll
  for (int m = 0; m < Tile<kDim>::kBlocks; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float highest = -INFINITY;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
        highest = fmaxf(highest, fmaxf(s[m][j][2 * half], s[m][j][2 * half + 1]));
      highest = fmaxf(state.highest[m][half], device::quad_max(highest) * scale_log2);
      const float base = highest == -INFINITY ? 0 : highest;  // a row that has seen no key yet
      const float correction = ptx::exp2_approx(state.highest[m][half] - base);
      state.highest[m][half] = highest;
      float total = state.total[m][half] * correction;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          total += s[m][j][2 * half + e] = ptx::exp2_approx(s[m][j][2 * half + e] * scale_log2 - base);
      state.total[m][half] = total;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j) {
        o[m][j][2 * half] *= correction;
        o[m][j][2 * half + 1] *= correction;
      }
    }
}

// A pair of neighbouring elements.
__device__ __forceinline__ void store_pair(void* out, DType dtype, int64_t at, float low, float high) {
  if (dtype == DType::bf16) {
    *reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(out) + at) =
        device::pack2<__nv_bfloat16>(low, high);
  } else if (dtype == DType::f16) {
    *reinterpret_cast<uint32_t*>(static_cast<__half*>(out) + at) = device::pack2<__half>(low, high);
  } else {
    *reinterpret_cast<float2*>(static_cast<float*>(out) + at) = {low, high};
  }
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
  const int end_tile = ((p.causal ? w.first_position + end_row : keys) + kKeys - 1) / kKeys;
  const int32_t* pages = p.block_table + w.sequence * p.table_stride;

  const auto load_stage = [&](int tile) {
    const int stage = tile % 2, inside = min(kKeys, keys - tile * kKeys);
    const int64_t page = pages[tile];
    const int kv_head = head / p.group;
    load_tile<kKeys, kDim>(
        s.k[stage], device::page_of<Element>(p.k_cache, p.k_page_stride, page, kv_head, kDim), kDim, inside);
    load_tile<kKeys, kDim>(
        s.v[stage], device::page_of<Element>(p.v_cache, p.v_page_stride, page, kv_head, kDim), kDim, inside);
  };
  const int64_t q_first = (w.first_token + w.row0) * p.q_stride + int64_t{head} * kDim;
  const bool same_type = sizeof(Element) == 2 && p.q_dtype == p.cache_dtype && p.q_stride % 8 == 0 &&
                         reinterpret_cast<uintptr_t>(p.q) % 16 == 0;
  if (same_type)
    load_tile<kRows, kDim>(s.q, static_cast<const Element*>(p.q) + q_first, p.q_stride, w.rows - w.row0);
  else
    convert_tile<kRows, kDim, Element>(s.q, p, q_first, w.rows - w.row0);
  load_stage(first_tile);
  ptx::cp_async_commit();

  float o[kBlocks][kDim / 8][4] = {};
  RowState<kBlocks> state;
#pragma unroll
  for (int m = 0; m < kBlocks; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state.highest[m][half] = -INFINITY;
      state.total[m][half] = 0;
    }
  const float scale_log2 = p.scale * device::kLog2e;
  for (int tile = first_tile; tile < end_tile; ++tile) {
    if (tile + 1 < end_tile) load_stage(tile + 1);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    float scores[kBlocks][kKeys / 8][4];
    warp_scores<Element, kDim>(scores, s.q, s.k[tile % 2], warp * 16 * kBlocks, lane);
    const int position = p.causal ? w.first_position + row : keys - 1, key0 = tile * kKeys;
    const bool past_diagonal = key0 + kKeys > position + 1;
    const bool before_window = key0 < p.first_key(position + 16 * kBlocks - 1);
    if (past_diagonal || before_window) {
#pragma unroll
      for (int m = 0; m < kBlocks; ++m)
        mask_scores(scores[m], p, p.causal ? position + 16 * m : position, key0, lane);
    }
    online_softmax<kDim>(scores, o, state, scale_log2);
    warp_values<Element, kDim>(o, scores, s.v[tile % 2], lane);
    __syncthreads();  // before the stage is loaded again
  }
  ptx::cp_async_wait<0>();

#pragma unroll
  for (int m = 0; m < kBlocks; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at_row = row + 16 * m + 8 * half + lane / 4;
      const float inverse = 1 / device::quad_sum(state.total[m][half]);
      if (at_row >= w.rows) continue;
      const int64_t to = (w.first_token + at_row) * p.out_stride + int64_t{head} * kDim + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
        store_pair(p.out, p.out_dtype, to + 8 * j, o[m][j][2 * half] * inverse,
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
