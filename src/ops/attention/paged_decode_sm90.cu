// paged_decode_sm90: attention for few rows a sequence on Hopper. The rows of a sequence and the query heads
// of a KV head are packed as the 16 rows of an mma fragment, so each key and value is read once for all of
// them; decode_share.cuh gives every block an equal run of pages or, in a batch of short contexts, whole
// segments; decode_merge.cuh sums what they leave.
//
// Block: one warp that loads and four that multiply, 16 keys of each page a warp, with an online softmax of
// its own; their states meet in shared memory at the end of a segment. The copy engine brings whole pages of
// one head (64 keys x D) into rings of kStages, in the 128-byte swizzle, keys and values on barriers of their
// own. Two blocks an SM at D <= 128: 64 KB each under way.
//
// PDL: pages that hold none of this step's keys are asked for before the predecessor has finished, so that of
// a short sequence only q, the products and the sum of the parts are left to do after it; the first page with
// new keys is fetched to L2 at least.
//
// Parts of a segment go to scratch in fp32; the last block to finish one (an atomic ticket that wraps to zero
// by itself) adds them in ascending order, so the result does not depend on who was last. Blocks beyond the
// work (`next` false at once) have nothing to do and may serve a prefetch of what comes after.
// One sequence of a short context is shared by clusters instead, each a segment: parts go from shared memory
// to shared memory, a slice of the columns to each block, which adds them in ascending order, too
// (ClusterShare). Shared memory at D = 128: K and V 2 x 16 KB each, Q 4 KB, states 34 KB. Bound by the stream
// of the cache.
#include <type_traits>

#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/atomic.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/attention/decode_merge.cuh"
#include "ops/attention/variants.h"
#include "ops/cuda.h"

namespace llamita {

namespace {

// Pages of a cluster's block. The sum through its memory is 1.7 us shorter, but its blocks are one an SM
// where others are two: 0.26 us a page (H100; 1k, 2k, 32k keys of 8 heads: 4.6, 5.5, 58.6 us
// for 5.2, 7.2, 51.9).
constexpr int kMostClusterPages = 4;

using device::AttentionParams;
using device::DecodeParams;
using device::DecodePiece;

struct Params {
  CUtensorMap k;  // (pages, Hkv, 64, D), box (1, 1, 64, 64)
  CUtensorMap v;  // as k
  DecodeParams decode;
};

// The loading warp; lane 0 talks to the copy engine.
template <class Share, class C>
__device__ __forceinline__ void produce(const Params& params, device::DecodeStorage<C>& s) {
  const AttentionParams& p = params.decode.attention;
  const int lane = threadIdx.x % 32;
  device::RingCursor<C::kStages> at;
  const auto load = [&](auto& ring, auto& stages, const CUtensorMap* map, int page, int kv_head) {
    ring.acquire(at, C::kPageBytes);
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      ptx::tma_load_4d(stages[at.stage()] + panel * C::kPanelBytes, map,
                       make_int4(page, kv_head, 0, panel * 64), &ring.full[at.stage()]);
  };
  bool waited = false;
  Share share(params.decode);
  for (DecodePiece piece; share.next(piece);) {
    const int32_t* table = p.block_table + piece.entry.sequence * p.table_stride;
    const int first_new = piece.entry.first_position / kPageTokens;
    for (int base = piece.page; base < piece.end_page; base += 32) {
      const int mine = base + lane < piece.end_page ? table[base + lane] : 0;
      for (int i = 0; i < min(32, piece.end_page - base); ++i) {
        const int page = __shfl_sync(0xffffffff, mine, i);
        if (lane != 0) continue;
        if (!waited && base + i >= first_new) {
#pragma unroll
          for (int panel = 0; panel < C::kPanels; ++panel) {
            ptx::tma_prefetch_4d(&params.k, make_int4(page, piece.kv_head, 0, panel * 64));
            ptx::tma_prefetch_4d(&params.v, make_int4(page, piece.kv_head, 0, panel * 64));
          }
          device::wait_for_predecessor();
          waited = true;
        }
        load(s.k_ring, s.k, &params.k, page, piece.kv_head);
        load(s.v_ring, s.v, &params.v, page, piece.kv_head);
        at.advance();
      }
    }
  }
}

// The rows as an A tile; rows and columns that are not there become zero.
template <class C>
__device__ __forceinline__ void stage_q(device::DecodeStorage<C>& s, const AttentionParams& p,
                                        const DecodePiece& piece) {
  using Element = typename C::Element;
  constexpr int kPieces = C::kPanels * 8;  // of 16 bytes a row
  const bool same_type = p.q_is_like_cache();
  for (int i = threadIdx.x; i < device::kDecodeRows * kPieces; i += 32 * device::kDecodeWarps) {
    const int row = i / kPieces, at = i % kPieces;
    uint4 bits = {0, 0, 0, 0};
    if (row < piece.entry.rows && at * 8 < C::kDim) {
      const int64_t from = device::row_offset(p, piece, row, p.q_stride) + at * 8;
      if (same_type) {
        bits = *reinterpret_cast<const uint4*>(static_cast<const Element*>(p.q) + from);
      } else {
        uint32_t pairs[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
          pairs[j] = device::pack2<Element>(device::load_float(p.q, p.q_dtype, from + 2 * j),
                                            device::load_float(p.q, p.q_dtype, from + 2 * j + 1));
        bits = {pairs[0], pairs[1], pairs[2], pairs[3]};
      }
    }
    *reinterpret_cast<uint4*>(s.q[at / 8] + device::swizzled_piece(row, at % 8)) = bits;
  }
}

template <class C>
__device__ __forceinline__ void scores_of(float (&scores)[8], const device::DecodeStorage<C>& s,
                                          uint32_t stage, int warp, int lane) {
#pragma unroll
  for (float& x : scores) x = 0;
  float(&low)[4] = *reinterpret_cast<float(*)[4]>(&scores[0]);
  float(&high)[4] = *reinterpret_cast<float(*)[4]>(&scores[4]);
#pragma unroll
  for (int k16 = 0; k16 < C::kDim / 16; ++k16) {
    uint32_t a[4], b[4];
    device::load_a_fragment(a, s.q[k16 / 4], 0, k16 % 4, lane);
    device::load_b_fragments(b, s.k[stage] + k16 / 4 * C::kPanelBytes, warp * device::kWarpKeys, k16 % 4,
                             lane);
    ptx::mma_m16n8k16<typename C::Element>(low, a, b[0], b[1]);
    ptx::mma_m16n8k16<typename C::Element>(high, a, b[2], b[3]);
  }
}

// out += weights V. `end`: keys of the warp's 16 that exist; behind them the page may hold anything, even
// NaN, and 0 * NaN is NaN.
template <class C>
__device__ __forceinline__ void add_values(float (&out)[C::kDim / 8][4], const uint32_t (&weights)[4],
                                           const device::DecodeStorage<C>& s, uint32_t stage, int end,
                                           int warp, int lane) {
  const int key = 2 * (lane % 4);
  const auto keep = [&](int first) {
    return (first < end ? 0xFFFFu : 0u) | (first + 1 < end ? 0xFFFF0000u : 0u);
  };
  const uint32_t low = keep(key), high = keep(key + 8);
#pragma unroll
  for (int j = 0; j < C::kDim / 16; ++j) {
    uint32_t b[4];
    const int piece = 2 * (j % 4) + (lane >> 4);
    ptx::ldmatrix_x4_trans(b, s.v[stage] + j / 4 * C::kPanelBytes +
                                  device::swizzled_piece(warp * device::kWarpKeys + (lane & 15), piece));
    if (end < device::kWarpKeys) {
      b[0] &= low;
      b[1] &= high;
      b[2] &= low;
      b[3] &= high;
    }
    ptx::mma_m16n8k16<typename C::Element>(out[2 * j], weights, b[0], b[1]);
    ptx::mma_m16n8k16<typename C::Element>(out[2 * j + 1], weights, b[2], b[3]);
  }
}

// After a warp's last read of a stage. An ldmatrix that was issued has not read yet, and the release is no
// barrier to it: without the fence the copy engine overwrote what was still to be read, in one launch of
// twelve (docs/performance/gpu.md).
template <class Ring>
__device__ __forceinline__ void let_go(Ring& ring, uint32_t stage, int lane) {
  ptx::fence_proxy_async_smem();
  __syncwarp();
  if (lane == 0) ring.release(stage);
}

// The piece's pages, one after the other.
template <class C>
__device__ __forceinline__ void walk_pages(const AttentionParams& p, device::DecodeStorage<C>& s,
                                           const DecodePiece& piece, device::RingCursor<C::kStages>& at,
                                           device::RowState& state, float (&out)[C::kDim / 8][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int first[2], end[2];  // keys that the thread's rows see
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = min(lane / 4 + 8 * half, piece.entry.rows - 1);
    const int position = piece.entry.first_position + (piece.entry.first_row + row) / p.group;
    first[half] = p.first_key(position);
    end[half] = p.causal ? position + 1 : piece.entry.end;
  }
  const float scale_log2 = p.scale * device::kLog2e;
  for (int page = piece.page; page < piece.end_page; ++page, at.advance()) {
    const int key0 = page * kPageTokens + warp * device::kWarpKeys;
    float scores[8], correction[2];
    s.k_ring.wait_full(at);
    scores_of<C>(scores, s, at.stage(), warp, lane);
    let_go(s.k_ring, at.stage(), lane);
    const int column = key0 + 2 * (lane % 4);
    const int from[2] = {first[0] - column, first[1] - column}, to[2] = {end[0] - column, end[1] - column};
    device::mask_scores(scores, from, to);
    device::online_softmax<8>(scores, state, correction, scale_log2);
    if (__any_sync(0xffffffff, correction[0] != 1 || correction[1] != 1)) {
#pragma unroll
      for (int j = 0; j < C::kDim / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) out[j][e] *= correction[e / 2];
    }
    uint32_t weights[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[i] = device::pack2<typename C::Element>(scores[2 * i], scores[2 * i + 1]);
    s.v_ring.wait_full(at);
    add_values<C>(out, weights, s, at.stage(), piece.entry.end - key0, warp, lane);
    let_go(s.v_ring, at.stage(), lane);
  }
}

// The warps that multiply.
template <class Share, class C, class Storage>
__device__ __forceinline__ void consume(const DecodeParams& d, Storage& s) {
  Share share(d);
  device::RingCursor<C::kStages> at;
  DecodePiece piece;
  bool more = share.next(piece);
  device::wait_for_predecessor();
  if (!Share::kClustered) device::start_successor();
  for (; more; more = share.next(piece)) {
    stage_q<C>(s, d.attention, piece);
    ptx::named_barrier_sync(device::kDecodeGroup, 32 * device::kDecodeWarps);
    device::RowState state;
    float out[C::kDim / 8][4] = {};
    walk_pages<C>(d.attention, s, piece, at, state, out);
    device::leave_state<C>(s, piece.entry.rows, state, out, d.attention.scale * device::kLog2e);
    ptx::named_barrier_sync(device::kDecodeGroup, 32 * device::kDecodeWarps);
    if constexpr (Share::kClustered) {
      ptx::cluster_wait();  // the others run and their barriers are set up
      device::exchange_parts<C>(s, d, piece);
    } else {
      device::leave_part<C>(s, d, piece);
      if (piece.parts > 1) {
        // Each thread's share of the part, before the ticket. The ticket's own release behind the barrier
        // should do; it has not been measured without the fence since stages are let go behind one (let_go).
        __threadfence();
        ptx::named_barrier_sync(device::kDecodeGroup, 32 * device::kDecodeWarps);
        if (threadIdx.x == 0) {
          const auto last_ticket = static_cast<unsigned>(piece.parts - 1);
          s.last = ptx::atomic_inc_acq_rel(&d.tickets[piece.segment], last_ticket) == last_ticket;
        }
        ptx::named_barrier_sync(device::kDecodeGroup, 32 * device::kDecodeWarps);
        if (s.last) device::merge_parts<C>(d, piece);
      }
      ptx::named_barrier_sync(device::kDecodeGroup,
                              32 * device::kDecodeWarps);  // the states have been read, and q by all
    }
  }
}

template <class Share, class C>
__global__ void __launch_bounds__(device::kDecodeThreads, C::kBlocksPerSm)
    paged_decode(const __grid_constant__ Params params) {
  using Storage = std::conditional_t<Share::kClustered, device::ClusterStorage<C>, device::DecodeStorage<C>>;
  auto& s = device::shared_storage<Storage>();
  if (threadIdx.x == 0) {
    ptx::tma_prefetch_map(&params.k);
    ptx::tma_prefetch_map(&params.v);
    s.k_ring.init(device::kDecodeWarps);
    s.v_ring.init(device::kDecodeWarps);
    if constexpr (Share::kClustered) {
      ptx::mbarrier_init(&s.arrived, 1);
      ptx::mbarrier_init_fence();
    }
  }
  if (Share::kClustered) {
    device::start_successor();
    __syncwarp();
    ptx::cluster_arrive_relaxed();
  }
  __syncthreads();
  if (threadIdx.x >= 32 * device::kDecodeWarps)
    produce<Share, C>(params, s);
  else
    consume<Share, C>(params.decode, s);
}

// From the shapes and the plan's bounds alone.
struct Shape {
  int64_t row_tiles, segments, blocks;
  int cluster;  // blocks that share a segment through a cluster's shared memory; 1: ClusterShare is not taken
};

Shape shape_of(const AttentionArgs& args, const Caps& caps) {
  const int64_t B = args.kv_len.dim(0), Hkv = args.k_cache.dim(1), group = args.q.dim(1) / Hkv;
  Shape shape;
  shape.row_tiles = std::max<int64_t>(ceil_div(args.plan->max_q_len * group, device::kDecodeRows), 1);
  shape.segments = B * shape.row_tiles * Hkv;
  const int64_t pages = shape.segments * ceil_div(args.plan->max_kv_len, kPageTokens);
  const int64_t most = (args.q.dim(2) > 128 ? 1 : 2) * caps.sm_count;
  shape.blocks = std::clamp<int64_t>(pages, 1, most);
  shape.cluster = 1;
  // One sequence: a block an SM, in clusters. More sequences may differ in length, and only the card knows.
  if (B == 1 && args.plan->max_q_len * group <= device::ClusterShare::kMostRows) {
    const int most_blocks = device::ClusterShare::kMostBlocks / (args.q.dim(2) > 128 ? 2 : 1);
    int cluster = 1;
    while (2 * cluster <= most_blocks &&
           2 * cluster * shape.segments <= std::min<int64_t>(pages, caps.sm_count))
      cluster *= 2;
    if (pages <= kMostClusterPages * cluster * shape.segments) shape.cluster = cluster;
  }
  return shape;
}

bool may_share(const Shape& shape) { return shape.segments <= cuda::Stream::kCounters; }

template <class C>
void launch_clustered(const Shape& shape, const Params& params, Context& context) {
  using Storage = device::ClusterStorage<C>;
  static_assert(C::kBlocksPerSm * (device::smem_bytes<Storage>() + 1024) <= 233472,
                "the shared memory of an SM of sm_90");
  cuda::launch(paged_decode<device::ClusterShare, C>,
               {.grid = dim3(static_cast<unsigned>(shape.segments * shape.cluster)),
                .block = dim3(device::kDecodeThreads),
                .smem = device::smem_bytes<Storage>(),
                .stream = context.stream().get(),
                .cluster = shape.cluster,
                .pdl = true},
               params);
}

template <class C>
void launch_decode(const AttentionArgs& args, Context& context) {
  static_assert(C::kBlocksPerSm * (device::smem_bytes<device::DecodeStorage<C>>() + 1024) <= 233472,
                "the shared memory of an SM of sm_90");
  const Shape shape = shape_of(args, context.caps());
  Params params{};
  params.k = cuda::make_tensor_map(args.k_cache, {1, 1, kPageTokens, 64});
  params.v = cuda::make_tensor_map(args.v_cache, {1, 1, kPageTokens, 64});
  params.decode.attention = attention_params(args);
  params.decode.row_tiles = static_cast<int>(shape.row_tiles);
  params.decode.sm_count = context.caps().sm_count;
  params.decode.cluster = shape.cluster;
  if (shape.cluster > 1) return launch_clustered<C>(shape, params, context);
  if (may_share(shape)) {
    const int64_t rows = 2 * shape.blocks * device::kDecodeRows;
    params.decode.partial_out =
        context.arena().take(DType::f32, {rows * (C::kDim + 2)}).template ptr<float>();
    params.decode.partial_state = reinterpret_cast<float2*>(params.decode.partial_out + rows * C::kDim);
    params.decode.tickets = context.stream().counters();
  }
  launch(context, paged_decode<device::DecodeShare, C>, dim3(static_cast<unsigned>(shape.blocks)),
         device::kDecodeThreads, device::smem_bytes<device::DecodeStorage<C>>(), params);
}

}  // namespace

bool attention_decode_sm90_supports(const AttentionArgs& args, const Caps& caps) {
  const auto aligned = [](const Tensor& t) {
    return reinterpret_cast<uintptr_t>(t.data()) % 16 == 0 && t.stride(0) % 8 == 0;
  };
  return caps.device == DeviceKind::cuda && caps.arch == 90 && has_mma_head_dim(args.q.dim(2)) &&
         args.k_cache.dtype() != DType::f32 && cache_is_aligned(args) && aligned(args.out);
}

int64_t attention_decode_sm90_scratch(const AttentionArgs& args, const Caps& caps) {
  const Shape shape = shape_of(args, caps);
  return shape.cluster == 1 && may_share(shape)
             ? 2 * shape.blocks * device::kDecodeRows * (args.q.dim(2) + 2) * 4
             : 0;
}

void attention_paged_decode_sm90(const AttentionArgs& args, Context& context) {
  if (args.kv_len.dim(0) == 0 || args.q.dim(0) == 0) return;
  const Arena::Scope scope(context.arena());
  with_head_dim(args.k_cache.dtype(), args.q.dim(2), [&]<class Element, int kDim>() {
    launch_decode<device::DecodeConfig<Element, kDim>>(args, context);
  });
}

}  // namespace llamita
