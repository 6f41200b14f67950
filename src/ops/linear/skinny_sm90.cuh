// The skinny Hopper product of decode: out(M, N) = x(M, K) w(N, K)^T for up to 128 tokens. Bound by the
// stream of w. The roles are swapped: 64 rows of w fill the fixed side of wgmma and the tokens are its free
// side, so that nothing is padded but the tokens to 16, 32, 64 or 128. linear, attn_in and mlp_in are this
// kernel with their epilogues.
//
// Block: a producer warp and a warpgroup that multiplies, around a ring of stages. A tile is 64 rows; a stage
// is 64 elements of K of a tile and of all tokens. Two blocks share a multiprocessor, and as those of one
// kernel end, those of the next take their places and ask for their weights at once. (A deeper ring for w and
// a shallower one for x is slower: x queues behind w on its way in.)
//
// Split K: where there are fewer tiles than places, a cluster shares a tile; block r of R multiplies stages
// [S r / R, S (r + 1) / R) and the sums meet in shared memory. Clusters must not need all places, or they
// wait for whole groups of multiprocessors to empty (256 blocks in clusters of 4 took twice as long as 192).
// Adding up through L2 instead, by the block that arrives last, took 2 to 6 us. Reduction order: K ascending
// inside a part, then the parts in ascending order. The parts depend on N, K and the card, not on M: a
// token's result does not depend on the tokens beside it, within one tile of tokens.
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

constexpr int kRows = kSkinnyTileRows;
constexpr int kPairs = kRows / 2;
constexpr int kDepth = 64;
constexpr int kConsumers = 128;
constexpr int kThreads = kConsumers + 32;
// Two blocks a multiprocessor: half of its 228 KB less what the system and the barriers take.
constexpr int kSharedBytes = 110 * 1024;

// Epilogue: what becomes of a tile's sums.
//   kPairs              false: a tile is 64 rows; true: 32 pairs, firsts in rows 0 to 31, seconds in 32 to 63
//   kBatch              groups of outputs whose Extras fit the registers
//   Extra load(tile, row, token)                     what else an output is made of
//   put(tile, row, token, value, second, extra)      row < 64, or < 32 with pairs; without them `second` is
//   not used
template <class ElementType, int kTokenCount, class EpilogueType>
struct Config {
  using Element = ElementType;
  using Epilogue = EpilogueType;
  static constexpr int kTokens = kTokenCount;
  static constexpr int kSums = kTokens / 2;    // of a thread
  static constexpr int kGroups = kTokens / 8;  // of eight tokens
  static constexpr int kBytesW = kRows * device::kSwizzleRowBytes;
  static constexpr int kBytesX = kTokens * device::kSwizzleRowBytes;
  static constexpr int kPairBytes = Epilogue::kPairs ? kRows / 2 * kTokens * 4 : 0;
  static constexpr int kStages = (kSharedBytes - kPairBytes) / (kBytesW + kBytesX);
  static_assert(kStages >= 3);
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
  int tiles;
  int stages;  // of K in a tile
  int split;   // blocks of a cluster, which share a tile; 1: a block walks over tiles
};

template <class C>
struct Params {
  CUtensorMap w[2];  // (N, K) of firsts and seconds, box (box_rows, 64)
  CUtensorMap x;     // (M, K), box (tokens, 64)
  Layout layout;
  Cut cut;
  typename C::Epilogue epilogue;
};

// The sums of a shared tile take the place of the ring.
template <class C>
struct Storage {
  union {
    struct {
      uint8_t w[C::kStages][C::kBytesW];
      uint8_t x[C::kStages][C::kBytesX];
    };
    float4 sums[C::kGroups][kConsumers];
  };
  float4 seconds[C::Epilogue::kPairs ? C::kGroups : 1][kConsumers / 2];
  device::Ring<C::kStages> ring;
};

// A block's part of K, and its tiles: tile, tile + stride, ...
struct Share {
  int begin, end, tile, stride;

  __device__ __forceinline__ explicit Share(const Cut& cut) {
    const int rank = cut.split > 1 ? static_cast<int>(ptx::cluster_rank()) : 0;
    begin = cut.stages * rank / cut.split;
    end = cut.stages * (rank + 1) / cut.split;
    tile = blockIdx.x / cut.split;
    stride = gridDim.x / cut.split;
  }
};

// What the block loads, in order.
struct Load {
  int tile, at;  // `at`: stage along K

  __device__ __forceinline__ void advance(const Share& share) {
    if (++at == share.end) {
      at = share.begin;
      tile += share.stride;
    }
  }
};

template <class C>
__device__ __forceinline__ void load_w(const Params<C>& p, Storage<C>& s, uint32_t stage, const Load& load) {
  uint64_t* full = &s.ring.full[stage];
  if constexpr (!C::Epilogue::kPairs) {
    ptx::tma_load_2d(s.w[stage], &p.w[0], load.at * kDepth, load.tile * kRows, full);
  } else {
    for (int box = 0; box < kPairs; box += p.layout.box_rows) {
      const int pair = load.tile * kPairs + box;
      const int row = pair / p.layout.run_pairs * p.layout.run_rows + pair % p.layout.run_pairs;
      uint8_t* to = s.w[stage] + box * device::kSwizzleRowBytes;
      ptx::tma_load_2d(to, &p.w[0], load.at * kDepth, row, full);
      ptx::tma_load_2d(to + kPairs * device::kSwizzleRowBytes, &p.w[1], load.at * kDepth,
                       row + p.layout.second_step, full);
    }
  }
}

template <class C>
__device__ __forceinline__ void load_x(const Params<C>& p, Storage<C>& s, uint32_t stage, const Load& load) {
  ptx::tma_load_2d(s.x[stage], &p.x, load.at * kDepth, 0, &s.ring.full[stage]);
}

template <class C>
__device__ __forceinline__ void produce(const Params<C>& p, Storage<C>& s) {
  const Share share(p.cut);
  const int tiles = (p.cut.tiles - share.tile + share.stride - 1) / share.stride;
  const int count = tiles * (share.end - share.begin), filled = min(count, C::kStages);
  device::RingCursor<C::kStages> cursor;
  Load load{share.tile, share.begin};
  for (int i = 0; i < filled; ++i, cursor.advance(), load.advance(share)) {
    s.ring.acquire(cursor, C::kBytesW + C::kBytesX);
    load_w<C>(p, s, cursor.stage(), load);
  }
  if (filled == count) ptx::grid_launch_dependents();
  ptx::grid_dependency_wait();
  Load first{share.tile, share.begin};
  for (int i = 0; i < filled; ++i, first.advance(share)) load_x<C>(p, s, i, first);
  for (int i = filled; i < count; ++i, cursor.advance(), load.advance(share)) {
    s.ring.acquire(cursor, C::kBytesW + C::kBytesX);
    load_w<C>(p, s, cursor.stage(), load);
    load_x<C>(p, s, cursor.stage(), load);
  }
  if (filled < count) ptx::grid_launch_dependents();
}

// One tile's part of K.
template <class C>
__device__ __forceinline__ void multiply(Storage<C>& s, device::RingCursor<C::kStages>& at, int count,
                                         float (&sum)[C::kSums]) {
  const int lane = threadIdx.x % 32;
  uint32_t former = 0;
  for (int i = 0; i < count; ++i, at.advance()) {
    const uint32_t stage = at.stage();
    s.ring.wait_full(at);
    ptx::wgmma_fence();
    device::wgmma_k64<typename C::Element, C::kTokens>(sum, device::wgmma_descriptor(s.w[stage]),
                                                       device::wgmma_descriptor(s.x[stage]), i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (i > 0 && lane == 0) s.ring.release(former);
    former = stage;
  }
  ptx::wgmma_wait<0>();
  ptx::wgmma_pin(sum);
  if (lane == 0) s.ring.release(former);
}

__device__ __forceinline__ float element(const float4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Outputs of groups first, first + step, ...: thread `slot` of the warpgroup has rows lane / 4 and + 8 of its
// warp's 16 and two tokens of a group. Everything is loaded before anything is stored: a residual may be the
// output, so the compiler must not move one load past one store.
template <class C, int kCount>
__device__ __forceinline__ void emit(const Params<C>& p, int tile, int slot, int first, int step,
                                     const float4 (&v)[kCount], const float4 (&second)[kCount]) {
  const int row = slot / 32 * 16 + slot % 32 / 4, token = slot % 4 * 2;
  constexpr int kBatch = C::Epilogue::kBatch;
#pragma unroll
  for (int begin = 0; begin < kCount; begin += kBatch) {
    typename C::Epilogue::Extra extra[kBatch][4];
#pragma unroll
    for (int j = 0; j < kBatch && begin + j < kCount; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        extra[j][e] =
            p.epilogue.load(tile, row + e / 2 * 8, (first + (begin + j) * step) * 8 + token + e % 2);
#pragma unroll
    for (int j = 0; j < kBatch && begin + j < kCount; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        p.epilogue.put(tile, row + e / 2 * 8, (first + (begin + j) * step) * 8 + token + e % 2,
                       element(v[begin + j], e), element(second[begin + j], e), extra[j][e]);
  }
}

template <class C>
__device__ __forceinline__ float4 group_of(const float (&sum)[C::kSums], int i) {
  return make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]);
}

// A tile that is the block's alone. Seconds pass through shared memory to the threads that hold the firsts.
template <class C>
__device__ __forceinline__ void store_tile(const Params<C>& p, Storage<C>& s, int tile,
                                           const float (&sum)[C::kSums]) {
  const int thread = threadIdx.x;
  float4 v[C::kGroups];
#pragma unroll
  for (int i = 0; i < C::kGroups; ++i) v[i] = group_of<C>(sum, i);
  if constexpr (!C::Epilogue::kPairs) {
    emit<C>(p, tile, thread, 0, 1, v, v);
  } else {
    ptx::named_barrier_sync(1, kConsumers);  // those of the tile before have been read
    if (thread >= kConsumers / 2) {
#pragma unroll
      for (int i = 0; i < C::kGroups; ++i) s.seconds[i][thread - kConsumers / 2] = v[i];
    }
    ptx::named_barrier_sync(1, kConsumers);
    if (thread < kConsumers / 2) {
      float4 second[C::kGroups];
#pragma unroll
      for (int i = 0; i < C::kGroups; ++i) second[i] = s.seconds[i][thread];
      emit<C>(p, tile, thread, 0, 1, v, second);
    }
  }
}

// The parts' sums of one thread's place, in the order of ranks; all loads under way at a time.
template <int kSplit, int kCount>
__device__ __forceinline__ void gather(float4 (&v)[kCount], const float4* const (&own)[kCount]) {
  float4 part[kCount][kSplit];
#pragma unroll
  for (int j = 0; j < kCount; ++j)
#pragma unroll
    for (int r = 0; r < kSplit; ++r)
      part[j][r] = ptx::load_cluster_float4(ptx::cluster_address(ptx::smem_address(own[j]), r));
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    v[j] = part[j][0];
#pragma unroll
    for (int r = 1; r < kSplit; ++r)
      v[j].x += part[j][r].x, v[j].y += part[j][r].y, v[j].z += part[j][r].z, v[j].w += part[j][r].w;
  }
}

// A tile that the cluster shares: every block leaves its sums in its shared memory and adds up the groups of
// tokens that fall to it. With pairs, half of the threads take the firsts and seconds of one half of those
// groups.
template <class C, int kSplit>
__device__ __forceinline__ void add_parts(const Params<C>& p, Storage<C>& s, int tile,
                                          const float (&sum)[C::kSums]) {
  // Where the split does not divide them some threads have a group beyond the last: they read the last and
  // store nothing, as it has no tokens.
  constexpr int kOwn = (C::kGroups + kSplit - 1) / kSplit;
  const auto sums_of = [&](int group) { return s.sums[min(group, C::kGroups - 1)]; };
  const int thread = threadIdx.x, rank = static_cast<int>(ptx::cluster_rank());
  ptx::named_barrier_sync(1, kConsumers);  // no warp multiplies from the ring any more
#pragma unroll
  for (int i = 0; i < C::kGroups; ++i) s.sums[i][thread] = group_of<C>(sum, i);
  ptx::cluster_sync();
  if (rank >= C::kGroups) return;
  if constexpr (!C::Epilogue::kPairs) {
    float4 v[kOwn];
    const float4* own[kOwn];
#pragma unroll
    for (int j = 0; j < kOwn; ++j) own[j] = sums_of(rank + j * kSplit) + thread;
    gather<kSplit>(v, own);
    emit<C>(p, tile, thread, rank, kSplit, v, v);
  } else {
    constexpr int kTaken = (kOwn + 1) / 2;
    const int side = thread / (kConsumers / 2), slot = thread % (kConsumers / 2);
    if (side >= kOwn) return;
    float4 v[kTaken], second[kTaken];
    const float4 *own[kTaken], *own_second[kTaken];
    const int first = rank + side * kSplit, step = 2 * kSplit;
#pragma unroll
    for (int j = 0; j < kTaken; ++j) {
      own[j] = sums_of(first + j * step) + slot;
      own_second[j] = own[j] + kConsumers / 2;
    }
    gather<kSplit>(v, own);
    gather<kSplit>(second, own_second);
    emit<C>(p, tile, slot, first, step, v, second);
  }
}

template <class C>
__device__ __forceinline__ void consume(const Params<C>& p, Storage<C>& s) {
  ptx::grid_dependency_wait();
  const Share share(p.cut);
  device::RingCursor<C::kStages> at;
  for (int tile = share.tile; tile < p.cut.tiles; tile += share.stride) {
    float sum[C::kSums];
    multiply<C>(s, at, share.end - share.begin, sum);
    switch (p.cut.split) {
      case 1: store_tile<C>(p, s, tile, sum); break;
      case 2: add_parts<C, 2>(p, s, tile, sum); break;
      case 3: add_parts<C, 3>(p, s, tile, sum); break;
      case 4: add_parts<C, 4>(p, s, tile, sum); break;
      default: add_parts<C, 6>(p, s, tile, sum); break;
    }
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 2) skinny(const __grid_constant__ Params<C> p) {
  auto& s = device::shared_storage<Storage<C>>();
  if (threadIdx.x == kConsumers) {
    for (const CUtensorMap& map : p.w) ptx::tma_prefetch_map(&map);
    ptx::tma_prefetch_map(&p.x);
  }
  if (threadIdx.x == 0) s.ring.init(kConsumers / 32);
  __syncthreads();
  if (threadIdx.x < kConsumers) {
    consume<C>(p, s);
  } else {
    if (threadIdx.x == kConsumers) produce<C>(p, s);
    if (p.cut.split > 1) ptx::cluster_sync();  // the sums are there
  }
  if (p.cut.split > 1) ptx::cluster_sync();  // nobody reads from this block any more
}

// x (M, K); firsts and seconds of pairs, or all rows, come from w and w_second (N, K).
struct Operands {
  const void* x;
  const void* w;
  const void* w_second;
  DType element;
  int M, N, K;
  int64_t x_stride;
  int tiles;
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
  p.x = map(o.x, o.M, o.x_stride, C::kTokens);
  p.layout = layout;
  p.epilogue = epilogue;
  p.cut.tiles = o.tiles;
  p.cut.stages = (o.K + kDepth - 1) / kDepth;
  p.cut.split = plan.split;
  cuda::launch(skinny<C>,
               {.grid = dim3(static_cast<unsigned>(plan.blocks)),
                .block = dim3(kThreads),
                .smem = device::smem_bytes<Storage<C>>(),
                .stream = context.stream().get(),
                .cluster = plan.split,
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
