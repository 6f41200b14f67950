// The skinny Hopper product of decode: out(M, N) = x(M, K) w(N, K)^T for up to 128 tokens. Bound by the
// stream of w, and from 64 tokens on by L2, which gives every block its own x. The roles are swapped: rows of
// w fill the fixed side of wgmma, 64 at a time, and the tokens are its free side, so that nothing is padded
// but the tokens to 16, 32, 64 or 128. linear, attn_in and mlp_in are this kernel with their epilogues.
//
// Block: a producer warp and a warpgroup that multiplies, around a ring of stages. A tile is 64 or 128 rows,
// or 64 pairs, whose two sums stand in one thread; a stage is 64 elements of K of a tile and of all tokens.
// A block has one tile. Two blocks share a multiprocessor, and as those of one kernel end, those of the next
// take their places and ask for their weights at once. (A deeper ring for w and a shallower one for x is
// slower: x queues behind w on its way in.)
//
// A cluster is `split` parts of K times `share` neighbouring tiles. Tiles of one part share x: each asks for
// its part of the tokens, and the copy engine hands it to all. Parts of a tile meet in shared memory, in the
// place of the ring: part r multiplies stages [S r / R, S (r + 1) / R) and finishes every R-th piece of the
// outputs. Clusters must not need all places, or they wait for whole groups of multiprocessors to empty (256
// blocks in clusters of 4 took twice as long as 192). Adding up through L2 instead, by the block that arrives
// last, took 2 to 6 us. Reduction order: K ascending inside a part, then the parts in ascending order. The
// parts depend on N, K, the card and the tile of tokens: a token's result does not depend on the tokens
// beside it, within one tile of tokens.
//
// The epilogue is one short loop over four outputs at a time, from sums that pass through shared memory in
// any case: unrolled over a thread's sums its code was fetched for one use, 30 us a product.
//
// PDL: w does not wait for the predecessor, x does. The successor is let in when a block has asked for its
// last weights: earlier it would only compete for memory.
#pragma once

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/ptx/wgmma_mma_narrow.cuh"
#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/cuda/element.cuh"
#include "ops/linear/skinny_sm90.h"

namespace llamita::skinny_sm90_detail {

constexpr int kRows = 64;  // of w in one wgmma
constexpr int kDepth = 64;
constexpr int kConsumers = 128;
constexpr int kThreads = kConsumers + 32;
// Two blocks a multiprocessor: half of its 228 KB less what the system and the barriers take.
constexpr int kSharedBytes = 110 * 1024;
constexpr size_t kMoreThanHalf = 120 * 1024;

// Epilogue: what becomes of a tile's sums.
//   kPairs        true: firsts fill the tile's first 64 rows, seconds the others
//   put(row, token, first, second)   four rows of outputs (pairs) from `row` of all on; `second` of pairs only
template <class ElementType, int kTokenCount, int kBlockCount, class EpilogueType>
struct Config {
  using Element = ElementType;
  using Epilogue = EpilogueType;
  static constexpr int kTokens = kTokenCount;
  static constexpr int kBlocks = kBlockCount;  // of 64 rows in a tile
  static constexpr int kSums = kTokens / 2;    // of a thread and block
  static constexpr int kTileRows = kRows * kBlocks;
  static constexpr int kOutRows = Epilogue::kPairs ? kRows : kTileRows;
  static constexpr int kBytesW = kTileRows * device::kSwizzleRowBytes;
  static constexpr int kBytesX = kTokens * device::kSwizzleRowBytes;
  static constexpr int kStages = kSharedBytes / (kBytesW + kBytesX);
  // Four floats more than the rows: then the threads of a warp that write sums meet 32 banks.
  static constexpr int kSumsStride = kTileRows + 4;
  static_assert(kStages >= 3 && (!Epilogue::kPairs || kBlocks == 2));
  static_assert(kTokens * kSumsStride * 4 <= kStages * (kBytesW + kBytesX));
};

// How a tile's rows lie in w. Without pairs: one after the other. Pair i's first is row i / run_pairs *
// run_rows + i % run_pairs, its second `second_step` rows further in the second matrix. Boxes do not cross a
// run's end.
struct Layout {
  int box_rows = kRows;
  int run_pairs = INT32_MAX;
  int run_rows = 0;
  int second_step = 0;
};

struct Cut {
  int stages;  // of K in a tile
  int split;   // parts of K
  int share;   // tiles of a cluster
};

template <class C>
struct Params {
  CUtensorMap w[2];  // (N, K) of firsts and seconds, box (box_rows, 64)
  CUtensorMap x;     // (M, K), box (tokens / share, 64)
  Layout layout;
  Cut cut;
  int tokens;  // M
  typename C::Epilogue epilogue;
};

// The sums take the place of the ring.
template <class C>
struct Storage {
  union {
    struct {
      uint8_t w[C::kStages][C::kBytesW];
      uint8_t x[C::kStages][C::kBytesX];
    };
    float sums[C::kTokens][C::kSumsStride];
  };
  device::Ring<C::kStages> ring;
};

// A block's tile, its part of K, and its place among the tiles of its cluster.
struct Share {
  int tile, part, member, begin, count;

  __device__ __forceinline__ explicit Share(const Cut& cut) {
    const int size = cut.split * cut.share;
    const int rank = size > 1 ? static_cast<int>(ptx::cluster_rank()) : 0;
    part = rank / cut.share;
    member = rank - part * cut.share;
    tile = static_cast<int>(blockIdx.x) / size * cut.share + member;
    begin = cut.stages * part / cut.split;
    count = cut.stages * (part + 1) / cut.split - begin;
  }
};

template <class C>
__device__ __forceinline__ void load_w(const Params<C>& p, Storage<C>& s, uint32_t stage, int tile, int at) {
  uint64_t* full = &s.ring.full[stage];
  if constexpr (!C::Epilogue::kPairs) {
    ptx::tma_load_2d(s.w[stage], &p.w[0], at * kDepth, tile * C::kTileRows, full);
  } else {
    for (int box = 0; box < kRows; box += p.layout.box_rows) {
      const int pair = tile * kRows + box;
      const int row = pair / p.layout.run_pairs * p.layout.run_rows + pair % p.layout.run_pairs;
      uint8_t* to = s.w[stage] + box * device::kSwizzleRowBytes;
      ptx::tma_load_2d(to, &p.w[0], at * kDepth, row, full);
      ptx::tma_load_2d(to + kRows * device::kSwizzleRowBytes, &p.w[1], at * kDepth, row + p.layout.second_step,
                       full);
    }
  }
}

template <class C>
__device__ __forceinline__ void load_x(const Params<C>& p, Storage<C>& s, uint32_t stage, const Share& share,
                                       int at) {
  uint64_t* full = &s.ring.full[stage];
  if (p.cut.share == 1) {
    ptx::tma_load_2d(s.x[stage], &p.x, at * kDepth, 0, full);
  } else {
    const int tokens = C::kTokens / p.cut.share;
    const uint32_t all = ((1u << p.cut.share) - 1) << (share.part * p.cut.share);
    ptx::tma_load_2d_multicast(s.x[stage] + share.member * tokens * device::kSwizzleRowBytes, &p.x, at * kDepth,
                               share.member * tokens, full, static_cast<uint16_t>(all));
  }
}

template <class C>
__device__ __forceinline__ void produce(const Params<C>& p, Storage<C>& s, const Share& share) {
  const int filled = min(share.count, C::kStages);
  device::RingCursor<C::kStages> cursor;
  for (int i = 0; i < filled; ++i, cursor.advance()) {
    s.ring.acquire(cursor, C::kBytesW + C::kBytesX);
    load_w<C>(p, s, cursor.stage(), share.tile, share.begin + i);
  }
  if (filled == share.count) ptx::grid_launch_dependents();
  ptx::grid_dependency_wait();
  for (int i = 0; i < filled; ++i) load_x<C>(p, s, i, share, share.begin + i);
  for (int i = filled; i < share.count; ++i, cursor.advance()) {
    s.ring.acquire(cursor, C::kBytesW + C::kBytesX);
    load_w<C>(p, s, cursor.stage(), share.tile, share.begin + i);
    load_x<C>(p, s, cursor.stage(), share, share.begin + i);
  }
  if (filled < share.count) ptx::grid_launch_dependents();
}

// A stage is free when every tile that shares its x has read it.
template <class C>
__device__ __forceinline__ void release(const Params<C>& p, Storage<C>& s, const Share& share, uint32_t stage,
                                        int lane) {
  if (p.cut.share == 1) {
    if (lane == 0) s.ring.release(stage);
  } else {
    if (lane < p.cut.share) s.ring.release_cluster(stage, share.part * p.cut.share + lane);
  }
}

template <class C>
__device__ __forceinline__ void multiply(const Params<C>& p, Storage<C>& s, const Share& share,
                                         float (&sum)[C::kBlocks][C::kSums]) {
  const int lane = threadIdx.x % 32;
  device::RingCursor<C::kStages> at;
  uint32_t former = 0;
  for (int i = 0; i < share.count; ++i, at.advance()) {
    const uint32_t stage = at.stage();
    s.ring.wait_full(at);
    ptx::wgmma_fence();
#pragma unroll
    for (int block = 0; block < C::kBlocks; ++block)
      device::wgmma_k64<typename C::Element, C::kTokens>(
          sum[block], device::wgmma_descriptor(s.w[stage]) + block * device::kDescriptor64Rows,
          device::wgmma_descriptor(s.x[stage]), i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (i > 0) release<C>(p, s, share, former, lane);
    former = stage;
  }
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int block = 0; block < C::kBlocks; ++block) ptx::wgmma_pin(sum[block]);
}

// A thread has rows lane / 4 and + 8 of its warp's 16 of a block, and two tokens of each group of eight.
template <class C>
__device__ __forceinline__ void leave_sums(Storage<C>& s, const float (&sum)[C::kBlocks][C::kSums]) {
  const int thread = threadIdx.x, lane = thread % 32;
  float* own = &s.sums[lane % 4 * 2][thread / 32 * 16 + lane / 4];
#pragma unroll
  for (int block = 0; block < C::kBlocks; ++block)
#pragma unroll
    for (int i = 0; i < C::kSums; ++i)
      own[(i / 4 * 8 + i % 2) * C::kSumsStride + block * kRows + i % 4 / 2 * 8] = sum[block][i];
}

// Four rows' sums of a token, of all parts in the order of parts.
template <int kSplit, int kStep>
struct Parts {
  float4 part[kSplit];

  __device__ __forceinline__ void load(const float* own, uint32_t first_rank, int share) {
    if constexpr (kSplit == 1) {
      part[0] = *reinterpret_cast<const float4*>(own);
    } else {
#pragma unroll
      for (int r = 0; r < kSplit; ++r)
        part[r] =
            ptx::load_cluster_float4(ptx::cluster_address(ptx::smem_address(own), first_rank + r * share));
    }
  }
  __device__ __forceinline__ float4 sum() const {
    float4 v = part[0];
#pragma unroll
    for (int r = 1; r < kSplit; ++r)
      v.x += part[r].x, v.y += part[r].y, v.z += part[r].z, v.w += part[r].w;
    return v;
  }
};

// The outputs of a tile that fall to this part, four rows of a token at a time.
template <class C, int kSplit>
__device__ __forceinline__ void finish(const Params<C>& p, Storage<C>& s, const Share& share) {
  constexpr int kQuads = C::kOutRows / 4, kAtOnce = C::Epilogue::kPairs ? 1 : 2;
  const int pieces = p.tokens * kQuads;
  constexpr int kStep = kConsumers * kSplit;
#pragma unroll 1
  for (int first = share.part * kConsumers + static_cast<int>(threadIdx.x); first < pieces;
       first += kAtOnce * kStep) {
    Parts<kSplit, kStep> v[kAtOnce], second[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int piece = min(first + j * kStep, pieces - 1);
      const float* own = &s.sums[piece / kQuads][piece % kQuads * 4];
      v[j].load(own, share.member, p.cut.share);
      if constexpr (C::Epilogue::kPairs) second[j].load(own + kRows, share.member, p.cut.share);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int piece = first + j * kStep;
      if (piece >= pieces) break;
      const float4 value = v[j].sum();
      p.epilogue.put(share.tile * C::kOutRows + piece % kQuads * 4, piece / kQuads, value,
                     C::Epilogue::kPairs ? second[j].sum() : value);
    }
  }
}

template <class C>
__device__ __forceinline__ void consume(const Params<C>& p, Storage<C>& s, const Share& share) {
  ptx::grid_dependency_wait();
  float sum[C::kBlocks][C::kSums];
  multiply<C>(p, s, share, sum);
  ptx::named_barrier_sync(1, kConsumers);  // no warp multiplies from the ring any more
  leave_sums<C>(s, sum);
  if (p.cut.split > 1)
    ptx::cluster_sync();
  else
    ptx::named_barrier_sync(1, kConsumers);
  switch (p.cut.split) {
    case 1: finish<C, 1>(p, s, share); break;
    case 2: finish<C, 2>(p, s, share); break;
    case 3: finish<C, 3>(p, s, share); break;
    case 4: finish<C, 4>(p, s, share); break;
    case 6: finish<C, 6>(p, s, share); break;
    default: finish<C, 8>(p, s, share); break;
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 2) skinny(const __grid_constant__ Params<C> p) {
  auto& s = device::shared_storage<Storage<C>>();
  const bool cluster = p.cut.split * p.cut.share > 1;
  if (threadIdx.x == kConsumers) {
    for (const CUtensorMap& map : p.w) ptx::tma_prefetch_map(&map);
    ptx::tma_prefetch_map(&p.x);
  }
  if (threadIdx.x == 0) s.ring.init(kConsumers / 32 * p.cut.share);
  if (p.cut.share > 1)
    ptx::cluster_sync();  // the others' barriers are there
  else
    __syncthreads();
  const Share share(p.cut);
  if (threadIdx.x < kConsumers) {
    consume<C>(p, s, share);
  } else {
    if (threadIdx.x == kConsumers) produce<C>(p, s, share);
    __syncwarp();
    if (p.cut.split > 1) ptx::cluster_sync();  // the sums are there
  }
  if (cluster) ptx::cluster_sync();  // nobody reads from this block any more, or tells it of a free stage
}

// x (M, K); firsts and seconds of pairs, or all rows, come from w and w_second (N, K).
struct Operands {
  const void* x;
  const void* w;
  const void* w_second;
  DType element;
  int M, N, K;
  int64_t x_stride;
};

template <class C>
void launch(const Operands& o, const Layout& layout, const typename C::Epilogue& epilogue,
            const SkinnyPlan& plan, Context& context) {
  static_assert(device::smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const Device device{DeviceKind::cuda, context.caps().device_index};
  const auto map = [&](const void* data, int64_t rows, int64_t stride, int box_rows) {
    const Tensor whole(const_cast<void*>(data), o.element, {rows, stride}, device);
    return cuda::make_tensor_map(whole.columns(0, o.K), {box_rows, kDepth});
  };
  Params<C> p{};
  p.w[0] = map(o.w, o.N, o.K, layout.box_rows);
  p.w[1] = o.w_second == o.w ? p.w[0] : map(o.w_second, o.N, o.K, layout.box_rows);
  p.x = map(o.x, o.M, o.x_stride, C::kTokens / plan.share);
  p.layout = layout;
  p.epilogue = epilogue;
  p.tokens = o.M;
  p.cut = {.stages = (o.K + kDepth - 1) / kDepth, .split = plan.split, .share = plan.share};
  cuda::launch(skinny<C>,
               {.grid = dim3(static_cast<unsigned>(plan.blocks)),
                .block = dim3(kThreads),
                .smem = std::max(device::smem_bytes<Storage<C>>(), plan.alone ? kMoreThanHalf : 0),
                .stream = context.stream().get(),
                .cluster = plan.split * plan.share,
                .pdl = true},
               p);
}

// kernel<kTokens>(): the instance for the plan's tile of tokens.
template <class Visit>
void with_tokens(const SkinnyPlan& plan, Visit visit) {
  switch (plan.tokens) {
    case 16: return visit.template operator()<16>();
    case 32: return visit.template operator()<32>();
    case 64: return visit.template operator()<64>();
    default: return visit.template operator()<128>();
  }
}

}  // namespace llamita::skinny_sm90_detail
