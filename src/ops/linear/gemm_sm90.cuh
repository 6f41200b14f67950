// The Hopper GEMM: persistent blocks of a producer warp and two consumer warpgroups, TMA and wgmma
// (lessons/gemm_07 to 12 build it up). A tile is 128 rows x kWide columns of products; pairs of row tiles
// share the loads of B through a cluster. Where tiles are fewer than multiprocessors, several blocks divide a
// tile's K (gemm_sm90_split.cuh). tiles.h chooses. Bound by: wgmma and the power limit where tiles fill the
// card, memory and L2 below M = 512.
//
// B's tile is loaded in two halves of kWide / 2 rows. In a gated block the halves are the same rows of gate
// and up, so the two sums of an output stand in one thread's registers and the activation costs no memory.
// Reduction order: K ascending in steps of 16, one fp32 accumulation for each part of K, the bias added to
// the first, parts ascending; residuals are added by the copy engine once an element. The result depends on
// the shape's tile alone.
//
// Programmatic dependent launch: the next kernel may start as soon as all our blocks run, so that its launch
// hides behind our work; we read weights, which no kernel writes, before our own predecessor is done, and
// activations after it.
//
// Invariants. Every role walks over the same tiles in the same order, so each meets every round of the ring.
// A warp's two store buffers take turns without regard to tiles; before one is written, the store before last
// has been read.
#pragma once

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/device/tile_order.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/linear/gemm_sm90.h"
#include "ops/linear/gemm_sm90_config.cuh"
#include "ops/linear/gemm_sm90_split.cuh"
#include "ops/linear/gemm_sm90_store.cuh"

namespace llamita::gemm_sm90_detail {

// What a block does at one time: a tile, and of K the blocks of 64 from begin to end.
struct Work {
  int tile, part;
  int row0, column0;
  int begin, end;
};

template <class C>
__device__ __forceinline__ Work work_of(const Params& p, int unit, uint32_t rank) {
  const int tiles = p.row_tiles * p.column_tiles;
  Work w;
  w.part = C::kSplit ? unit / tiles : 0;
  w.tile = unit - w.part * tiles;
  const int2 at = device::grouped_tile(w.tile, p.row_tiles, p.column_tiles, kGroupRows / C::kCluster);
  w.row0 = (at.x * C::kCluster + static_cast<int>(rank)) * kTileM;
  w.column0 = at.y * C::kOutWidth;
  w.begin = C::kSplit ? p.blocks * w.part / p.splits : 0;
  w.end = C::kSplit ? p.blocks * (w.part + 1) / p.splits : p.blocks;
  return w;
}

template <class C, class Visit>
__device__ __forceinline__ void for_each_work(const Params& p, uint32_t rank, Visit visit) {
  const int units = p.row_tiles * p.column_tiles * p.splits;
  for (int unit = blockIdx.x / C::kCluster; unit < units; unit += gridDim.x / C::kCluster)
    visit(work_of<C>(p, unit, rank));
}

template <class C>
__device__ __forceinline__ void load_b(const Params& p, Storage<C>& s, uint32_t stage, int block, int column0,
                                       uint32_t rank) {
  if constexpr (C::kCluster == 1) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      ptx::tma_load_2d(s.b[stage][half], &p.b[half], block * kDepth, column0 + half * p.half_step,
                       &s.ring.full[stage]);
  } else {
    ptx::tma_load_2d_multicast(s.b[stage][rank], &p.b[rank], block * kDepth,
                               column0 + static_cast<int>(rank) * p.half_step, &s.ring.full[stage], 3);
  }
}

template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s, uint32_t rank) {
  device::RingCursor<C::kStages> at, early;
  const Work first = work_of<C>(p, blockIdx.x / C::kCluster, rank);
  int loaded = min(C::kStages, first.end - first.begin);  // steps whose weights are under way
  for (int i = 0; i < loaded; ++i, early.advance()) {
    s.ring.acquire(early, C::kBytesA + 2 * C::kBytesHalf);
    load_b<C>(p, s, early.stage(), first.begin + i, first.column0, rank);
  }
  ptx::grid_dependency_wait();
  for_each_work<C>(p, rank, [&](const Work& w) {
    for (int block = w.begin; block < w.end; ++block, at.advance()) {
      const uint32_t stage = at.stage();
      if (loaded > 0) {
        --loaded;
      } else {
        s.ring.acquire(at, C::kBytesA + 2 * C::kBytesHalf);
        load_b<C>(p, s, stage, block, w.column0, rank);
      }
      ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, w.row0, &s.ring.full[stage]);
    }
  });
}

template <class C>
__device__ __forceinline__ void release(Storage<C>& s, uint32_t stage, int lane) {
  if constexpr (C::kCluster == 1) {
    if (lane == 0) s.ring.release(stage);
  } else {
    if (lane < C::kCluster) s.ring.release_cluster(stage, lane);
  }
}

// One consumer's 64 rows. A finished tile of 16-bit outputs is packed into half the registers of its sums and
// stored, a chunk a step, under the next tile's first multiplies.
template <class C>
__device__ __forceinline__ void consume(const Params& p, Storage<C>& s, uint32_t rank, int consumer) {
  constexpr bool kDeferred = C::kEpilogue != Epilogue::f32 && !C::kSplit;
  const int lane = threadIdx.x % 32, warp = consumer * 4 + static_cast<int>(threadIdx.x) % 128 / 32;
  device::RingCursor<C::kStages> at;
  int turn = 0;
  ChunkOut<C> out[C::kChunks];
  int out_row = 0, out_column = 0, waiting = 0;  // chunks of a tile still to be stored
  const auto store = [&](int chunk, const ChunkOut<C>& values) {
    store_chunk<C>(p, s.chunk[warp], values, out_row, out_column + chunk * C::kChunk, turn, lane);
  };
  const auto store_next = [&] {
#pragma unroll
    for (int chunk = 0; chunk < C::kChunks; ++chunk)
      if (waiting == C::kChunks - chunk) store(chunk, out[chunk]);
    --waiting;
  };
  for_each_work<C>(p, rank, [&](const Work& w) {
    float sum[C::kWidth / 2];
    uint32_t former = 0;
    for (int block = w.begin; block < w.end; ++block, at.advance()) {
      s.ring.wait_full(at);
      ptx::wgmma_fence();
      device::wgmma_k64<typename C::Element, C::kWidth>(
          sum, device::wgmma_descriptor(s.a[at.stage()]) + consumer * device::kDescriptor64Rows,
          device::wgmma_descriptor(s.b[at.stage()]), block > w.begin);
      ptx::wgmma_commit();
      if (kDeferred && waiting > 0) store_next();
      ptx::wgmma_wait<1>();
      if (block > w.begin) release(s, former, lane);
      former = at.stage();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(sum);
    release(s, former, lane);
    while (kDeferred && waiting > 0) store_next();  // there were fewer steps than chunks
    if (p.bias != nullptr && w.part == 0) add_bias<C>(p, sum, w.column0, lane);
    out_row = w.row0 + warp * 16;
    out_column = w.column0;
    if constexpr (C::kSplit) {
      add_parts<C>(p, sum, w.tile, w.part, rank, warp, lane, [&](int chunk, const auto& total) {
        ChunkOut<C> values;
        finish_chunk<C>(p, total, nullptr, values);
        store(chunk, values);
      });
    } else {
#pragma unroll
      for (int chunk = 0; chunk < C::kChunks; ++chunk) {
        const float* of = sum + chunk * (C::kChunk / 2);
        finish_chunk<C>(p, of, of + C::kWidth / 4, out[chunk]);
        if (!kDeferred) store(chunk, out[chunk]);
      }
      if (kDeferred) waiting = C::kChunks;
    }
  });
  while (kDeferred && waiting > 0) store_next();
  if (lane == 0) ptx::tma_store_wait_read<0>();
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) gemm(const __grid_constant__ Params p) {
  auto& s = device::shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t rank = C::kCluster > 1 ? ptx::cluster_rank() : 0;
  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&p.a, &p.b[0], &p.b[1], &p.out}) ptx::tma_prefetch_map(map);
    s.ring.init(kConsumers * 4 * C::kCluster);
    ptx::grid_launch_dependents();
  }
  if constexpr (C::kCluster > 1)
    ptx::cluster_sync();
  else
    __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<56>();
    if (threadIdx.x == 0) produce<C>(p, s, rank);
  } else {
    ptx::setmaxnreg_increase<224>();
    ptx::grid_dependency_wait();  // what we store to may still be read
    consume<C>(p, s, rank, group - 1);
  }
  if constexpr (C::kCluster > 1) ptx::cluster_sync();
}

template <class C>
void launch(const GemmSm90& g, GemmTile tile, Context& context) {
  static_assert(device::smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const Device device{DeviceKind::cuda, context.caps().device_index};
  const auto matrix = [&](const void* data, DType dtype, int64_t rows, int64_t columns, int64_t stride) {
    const Tensor whole(const_cast<void*>(data), dtype, {rows, stride}, device);
    return whole.columns(0, columns);
  };
  Params p{};
  p.a = cuda::make_tensor_map(matrix(g.a, g.element, g.M, g.K, g.a_stride), {kTileM, kDepth});
  const bool gated = C::kEpilogue == Epilogue::gated;
  for (int half = 0; half < 2; ++half)
    p.b[half] = cuda::make_tensor_map(matrix(gated && half == 1 ? g.b_up : g.b, g.element, g.N, g.K, g.K),
                                      {C::kHalf, kDepth});
  const DType out_dtype = C::kEpilogue == Epilogue::f32 ? DType::f32 : g.element;
  p.out = cuda::make_tensor_map(
      matrix(g.out, out_dtype, g.M, g.N, g.out_stride), {16, C::kChunk},
      C::kChunkBytes == 16 * 128 ? cuda::TmaSwizzle::span128 : cuda::TmaSwizzle::span64);
  p.half_step = gated ? 0 : C::kHalf;
  p.columns = g.N;
  p.row_tiles = (g.M + kTileM * C::kCluster - 1) / (kTileM * C::kCluster);
  p.column_tiles = (g.N + C::kOutWidth - 1) / C::kOutWidth;
  p.blocks = (g.K + kDepth - 1) / kDepth;
  p.bias = g.bias;
  p.bias_up = g.bias_up;
  p.linear = kLog2e * gate_coefficients(g.activation).linear;
  p.cubic = kLog2e * gate_coefficients(g.activation).cubic;
  p.add = g.kind == GemmSm90::Out::f32_add;
  cuda::LaunchConfig config{.block = dim3(kThreads),
                            .smem = device::smem_bytes<Storage<C>>(),
                            .stream = context.stream().get(),
                            .cluster = C::kCluster,
                            .pdl = true};
  const int tiles = p.row_tiles * p.column_tiles;
  int clusters = std::max(context.caps().sm_count / C::kCluster, 1);
  p.splits = tile.splits;
  if constexpr (C::kSplit) {
    // The blocks of a split problem wait for each other: all must find room.
    static const int room = cuda::active_clusters(gemm<C>, config);
    clusters = std::min(clusters, room);
    p.splits = std::max(std::min(tile.splits, clusters / tiles), 1);
    p.exchange = static_cast<float4*>(context.stream().exchange());
  }
  config.grid = dim3(static_cast<unsigned>(std::min(clusters, tiles * p.splits) * C::kCluster));
  cuda::launch(gemm<C>, config, p);
}

// Odd widths are for pairs of row tiles; a single one is never bound by their better fit.
template <class Element, int kWide, Epilogue kEpilogue, bool kSplit = false>
void launch_width(const GemmSm90& g, GemmTile tile, Context& context) {
  if (gemm_cluster({.M = g.M, .N = g.N, .K = g.K}) == 2)
    launch<Config<Element, kWide, 2, kEpilogue, kSplit>>(g, tile, context);
  else if constexpr (kWide % 64 == 0)
    launch<Config<Element, kWide, 1, kEpilogue, kSplit>>(g, tile, context);
  else
    LLAMITA_CHECK(false, "gemm_sm90: no tile of ", kWide, " columns for one row tile");
}

template <class Element, Epilogue kEpilogue>
void launch_tile(const GemmSm90& g, GemmTile tile, Context& context) {
  if (tile.splits > 1) {
    switch (tile.width) {
      case 96: return launch_width<Element, 96, kEpilogue, true>(g, tile, context);
      case 128: return launch_width<Element, 128, kEpilogue, true>(g, tile, context);
      case 160: return launch_width<Element, 160, kEpilogue, true>(g, tile, context);
      case 192: return launch_width<Element, 192, kEpilogue, true>(g, tile, context);
      default: return launch_width<Element, 256, kEpilogue, true>(g, tile, context);
    }
  }
  switch (tile.width) {
    case 96: return launch_width<Element, 96, kEpilogue>(g, tile, context);
    case 128: return launch_width<Element, 128, kEpilogue>(g, tile, context);
    case 160: return launch_width<Element, 160, kEpilogue>(g, tile, context);
    case 192: return launch_width<Element, 192, kEpilogue>(g, tile, context);
    case 224: return launch_width<Element, 224, kEpilogue>(g, tile, context);
    default: return launch_width<Element, 256, kEpilogue>(g, tile, context);
  }
}

template <class Element>
void run(const GemmSm90& g, GemmTile tile, Context& context) {
  if (g.b_up != nullptr) {
    switch (tile.width) {
      case 128: return launch_width<Element, 128, Epilogue::gated>(g, tile, context);
      case 192: return launch_width<Element, 192, Epilogue::gated>(g, tile, context);
      default: return launch_width<Element, 256, Epilogue::gated>(g, tile, context);
    }
  }
  if (g.kind == GemmSm90::Out::element) return launch_tile<Element, Epilogue::element>(g, tile, context);
  launch_tile<Element, Epilogue::f32>(g, tile, context);
}

}  // namespace llamita::gemm_sm90_detail
