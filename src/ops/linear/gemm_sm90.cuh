// The Hopper GEMM: persistent blocks of a producer warp and a consumer warpgroup for every 64 rows, TMA and
// wgmma (lessons/gemm_07 to 12 build it up). A tile is 128 rows x kWide columns of products, or 64 rows where
// few tiles would leave the card idle and K is whole. Two row tiles of a cluster share the loads of B: each
// block asks for a half, and the copy engine hands it to both. (Four rows, or two columns that share A, gain
// nothing.) Where tiles are fewer than multiprocessors, the cluster also divides their K
// (gemm_sm90_split.cuh). Two consumers share a tile (cooperative) or have one each and take turns
// (ping-pong): consume() says how. tiles.h chooses the tile of a schedule, the op's table the schedule. Bound
// by: wgmma and the power limit where tiles fill the card; memory and what the ring takes in a step below
// M = 1024.
//
// In a gated block the two halves of B's tile are the same rows of gate and up, so the two sums of an output
// stand in one thread's registers and the activation costs no memory. An activation of a single product is a
// branch of a finished tile (finish_chunk), not instances of its own.
// Reduction order: K ascending in steps of 16, one fp32 accumulation for each part of K, the bias added to
// the first, parts ascending; residuals are added by the copy engine once an element. The result depends on
// the shape's tile alone.
//
// Programmatic dependent launch: the next kernel may start as soon as all our blocks run, so that its launch
// hides behind our work; we read weights, which no kernel writes, before our own predecessor is done, and
// activations after it.
//
// Invariants. The producer, and every cooperative consumer, walks over all of the block's tiles in order and
// so meets every round of the ring. A ping-pong consumer meets those of every second tile; that it was given
// the turn tells it that the rounds before are complete. A warp's store buffers follow each other without
// regard to tiles; before one is written, its last store has been read.
#pragma once

#include <array>
#include <atomic>

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
  int row0, column0;
  int begin, end;
};

template <class C>
__device__ __forceinline__ Work work_of(const Params& p, int unit, const Place& place) {
  const int2 at = p.order.tile(unit);
  Work w;
  w.row0 = (at.x * p.cluster.rows + place.row) * C::kHeight;
  w.column0 = at.y * C::kOutWidth;
  w.begin = C::kSplit ? p.begin[place.part] : 0;
  w.end = p.begin[C::kSplit ? place.part + 1 : 1];
  return w;
}

// From the cluster's first work on, or of its works every second from number `index` on. The clusters of a
// split problem have one tile each.
template <class C, bool kEverySecond = false, class Visit>
__device__ __forceinline__ void for_each_work(const Params& p, const Place& place, Work work, Visit visit,
                                              int index = 0) {
  int unit = place.cluster;
  if (kEverySecond && index > 0) {
    unit += index * p.clusters;
    if (unit >= p.units) return;
    work = work_of<C>(p, unit, place);
  }
  for (;;) {
    visit(work);
    unit += (kEverySecond ? 2 : 1) * p.clusters;
    if (C::kSplit || unit >= p.units) return;
    work = work_of<C>(p, unit, place);
  }
}

template <class C>
__device__ __forceinline__ void load_b(const Params& p, Storage<C>& s, uint32_t stage, int block, int column0,
                                       const Place& place) {
  uint64_t* full = &s.ring.full[stage];
  if (p.cluster.rows == 1) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      ptx::tma_load_2d(s.b[stage][half], &p.b[half], block * kDepth, column0 + half * p.half_step, full);
  } else {
    ptx::tma_load_2d_multicast(s.b[stage][place.row], &p.b[place.row], block * kDepth,
                               column0 + place.row * p.half_step, full,
                               static_cast<uint16_t>(3 << 2 * place.part));
  }
}

// The weights of the first round.
template <class C>
__device__ __forceinline__ void begin_ring(const Params& p, Storage<C>& s, const Place& place,
                                           const Work& first) {
  const int steps = min(C::kStages, first.end - first.begin);
  for (int i = 0; i < steps; ++i) {
    s.ring.announce(i, C::kBytesA + C::kBytesB);
    load_b<C>(p, s, i, first.begin + i, first.column0, place);
  }
}

template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s, const Place& place,
                                        const Work& first) {
  constexpr int kBytes = C::kBytesA + C::kBytesB;
  device::RingCursor<C::kStages> at;
  int loaded = min(C::kStages, first.end - first.begin);  // steps whose weights are under way
  ptx::grid_dependency_wait();
  for_each_work<C>(p, place, first, [&](const Work& w) {
    for (int block = w.begin; block < w.end; ++block, at.advance()) {
      const uint32_t stage = at.stage();
      if (loaded > 0) {
        --loaded;
      } else {
        s.ring.acquire(at, kBytes);
        load_b<C>(p, s, stage, block, w.column0, place);
      }
      ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, w.row0, &s.ring.full[stage]);
    }
  });
  s.ring.drain(at);  // a single block has nobody to wait for, and loses nothing
}

// Both row tiles write to a stage of either.
template <class C>
__device__ __forceinline__ void release(const Params& p, Storage<C>& s, uint32_t stage, const Place& place,
                                        int lane) {
  if (p.cluster.rows == 1) {
    if (lane == 0) s.ring.release(stage);
  } else {
    if (lane < 2) s.ring.release_cluster(stage, 2 * place.part + lane);
  }
}

// Ping-pong: waits for the consumer's turn with the block's tile number `tile`, which goes on to its next;
// where the ring stands then. Consumer 1 waits for the tile before in the phase of its own number, consumer 0
// in the one before it, which for the first tile passes at once.
template <class C>
__device__ __forceinline__ device::RingCursor<C::kStages> take_turn(Storage<C>& s, int consumer, int& tile,
                                                                    int steps) {
  const device::RingCursor<C::kStages> at(tile * steps);
  ptx::mbarrier_wait(&s.handover.given[consumer], (tile / 2 + 1 - consumer) & 1);
  tile += 2;
  return at;
}

// A finished tile's sums to outputs, for store(chunk, values, slab); kDeferred: they stay in `out`.
template <class C, bool kDeferred, class Store>
__device__ __forceinline__ void finish_tile(const Params& p, Storage<C>& s, const Place& place,
                                            float (&sum)[C::kSlabs][C::kWidth / 2],
                                            ChunkOut<C> (&out)[C::kChunks], int warp, int lane, Store store) {
  if constexpr (C::kSplit) {
    add_parts<C>(p, s, place, sum[0], warp, lane, [&](int chunk, const auto& total) {
      ChunkOut<C> values;
      finish_chunk<C>(p, total, nullptr, values);
      store(chunk, values);
    });
  } else {
#pragma unroll
    for (int slab = 0; slab < C::kSlabs; ++slab)
#pragma unroll
      for (int chunk = 0; chunk < C::kChunks; ++chunk) {
        const float* of = sum[slab] + chunk * (C::kChunk / 2);
        finish_chunk<C>(p, of, of + C::kWidth / 4, out[chunk]);
        if (!kDeferred) store(chunk, out[chunk], slab);
      }
  }
}

// The last tile leaves at once, through the place of the ring: chunk by chunk each would wait for another.
template <class C>
__device__ __forceinline__ void store_last(const Params& p, Storage<C>& s,
                                           const ChunkOut<C> (&out)[C::kChunks], int row, int column,
                                           int warp, int lane) {
  static_assert(4 * C::kConsumers * C::kChunks * C::kChunkBytes <= sizeof s.a);
  ptx::named_barrier_sync(1, 128 * C::kConsumers);  // no warp multiplies from the ring any more
  uint8_t* place_out = s.a[0] + warp * C::kChunks * C::kChunkBytes;
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk)
    fill_chunk<C>(place_out + chunk * C::kChunkBytes, out[chunk], lane);
  ptx::fence_proxy_async_smem();
  __syncwarp();
  if (lane == 0) {
    for (int chunk = 0; chunk < C::kChunks; ++chunk)
      ptx::tma_store_2d(&p.out, place_out + chunk * C::kChunkBytes, column + chunk * C::kChunk, row);
    ptx::tma_store_commit();
  }
}

// One consumer's 64 rows of every tile. A finished tile of 16-bit outputs is packed into half the registers
// of its sums and stored, a chunk a step, under the next tile's first multiplies.
//
// Ping-pong: the whole of every second tile. Whoever has seen the last stage of its tile hands over to the
// other, so the multiplies of the two follow each other without a gap, and activation, packing and stores run
// under those of the other. Tile i fills the ring's steps from i K / 64 on; a consumer may wait for those of
// its tile because the other, handing over, has seen all before them.
template <class C>
__device__ __forceinline__ void consume(const Params& p, Storage<C>& s, const Place& place, const Work& first,
                                        int consumer) {
  constexpr bool kDeferred = C::kEpilogue != Epilogue::f32 && !C::kSplit && !C::kPingPong;
  const int lane = threadIdx.x % 32, warp = consumer * 4 + static_cast<int>(threadIdx.x) % 128 / 32;
  device::RingCursor<C::kStages> at;
  const int slab0 = C::kPingPong ? 0 : consumer, warp_row = (C::kPingPong ? warp % 4 : warp) * 16;
  int tile = consumer;  // ping-pong: number among the block's
  int buffer = 0;       // of the warp's, for the next store
  ChunkOut<C> out[C::kChunks];
  int out_row = 0, out_column = 0, waiting = 0;  // chunks of a tile still to be stored
  const auto store = [&](int chunk, const ChunkOut<C>& values, int slab = 0) {
    store_chunk<C>(p, s.chunk[warp], values, out_row + slab * 64, out_column + chunk * C::kChunk, buffer,
                   lane);
  };
  const auto store_next = [&] {
#pragma unroll
    for (int chunk = 0; chunk < C::kChunks; ++chunk)
      if (waiting == C::kChunks - chunk) store(chunk, out[chunk]);
    --waiting;
  };
  const auto multiply_and_store = [&](const Work& w) {
    float sum[C::kSlabs][C::kWidth / 2];
    uint32_t former = 0;
    if constexpr (C::kPingPong) at = take_turn<C>(s, consumer, tile, w.end - w.begin);
    for (int block = w.begin; block < w.end; ++block, at.advance()) {
      s.ring.wait_full(at);
      ptx::wgmma_fence();
#pragma unroll
      for (int slab = 0; slab < C::kSlabs; ++slab)
        device::wgmma_k64<typename C::Element, C::kWidth>(
            sum[slab], device::wgmma_descriptor(s.a[at.stage()]) + (slab0 + slab) * device::kDescriptor64Rows,
            device::wgmma_descriptor(s.b[at.stage()]), block > w.begin);
      ptx::wgmma_commit();
      if (kDeferred && waiting > 0) store_next();
      ptx::wgmma_wait<1>();
      if (block > w.begin) release(p, s, former, place, lane);
      former = at.stage();
    }
    if constexpr (C::kPingPong)
      if (lane == 0) ptx::mbarrier_arrive(&s.handover.given[consumer ^ 1]);
    ptx::wgmma_wait<0>();
#pragma unroll
    for (int slab = 0; slab < C::kSlabs; ++slab) ptx::wgmma_pin(sum[slab]);
    release(p, s, former, place, lane);
    while (kDeferred && waiting > 0) store_next();  // there were fewer steps than chunks
    if (p.bias != nullptr && place.part == 0)
#pragma unroll
      for (int slab = 0; slab < C::kSlabs; ++slab) add_bias<C>(p, sum[slab], w.column0, lane);
    out_row = w.row0 + warp_row;
    out_column = w.column0;
    finish_tile<C, kDeferred>(p, s, place, sum, out, warp, lane, store);
    if (kDeferred) waiting = C::kChunks;
  };
  for_each_work<C, C::kPingPong>(p, place, first, multiply_and_store, C::kPingPong ? consumer : 0);
  if constexpr (kDeferred) store_last<C>(p, s, out, out_row, out_column, warp, lane);
  if (lane == 0) ptx::tma_store_wait_read<0>();
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) gemm(const __grid_constant__ Params p) {
  auto& s = device::shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  if (threadIdx.x == 32)
    for (const CUtensorMap* map : {&p.b[0], &p.b[1], &p.a, &p.out}) ptx::tma_prefetch_map(map);
  const bool paired = p.cluster.rows > 1;  // loads and releases go to the other row's block too
  if (threadIdx.x == 0) {
    if constexpr (C::kSplit) init_exchange<C>(p, s);
    if constexpr (C::kPingPong)
      for (uint64_t& given : s.handover.given) ptx::mbarrier_init(&given, 4);
    s.ring.init(C::kReaders * 4 * p.cluster.rows);
  }
  __syncwarp();
  if (paired || C::kSplit) ptx::cluster_arrive_relaxed();
  const Place place(p);
  const Work first = work_of<C>(p, place.cluster, place);
  if (paired) ptx::cluster_wait();
  if (threadIdx.x == 0) {
    begin_ring<C>(p, s, place, first);
    ptx::grid_launch_dependents();
  }
  __syncwarp();
  if (!paired) __syncthreads();
  if (group == 0) {
    if constexpr (C::kConsumers == 2) ptx::setmaxnreg_decrease<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C>(p, s, place, first);
    __syncwarp();
  } else {
    if constexpr (C::kConsumers == 2) ptx::setmaxnreg_increase<C::kConsumerRegisters>();
    ptx::grid_dependency_wait();  // what we store to may still be read
    consume<C>(p, s, place, first, group - 1);
  }
}

// How many clusters of a size run at one time.
template <class C>
int clusters_at_a_time(const cuda::LaunchConfig& config, int sm_count) {
  if (config.cluster == 1) return std::max(sm_count, 1);
  static std::array<std::atomic<int>, 9> known{};  // by size
  std::atomic<int>& room = known[static_cast<size_t>(config.cluster)];
  if (room == 0) room = std::max(cuda::active_clusters(gemm<C>, config), 1);
  return std::clamp(sm_count / config.cluster, 1, room.load());  // caps may name fewer than the card has
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
  p.cluster = {.parts = tile.splits, .rows = tile.rows};
  p.cluster_blocks = device::Divider(p.cluster.size());
  p.a = cuda::make_tensor_map(matrix(g.a, g.element, g.M, g.K, g.a_stride), {C::kHeight, kDepth});
  const bool gated = C::kEpilogue == Epilogue::gated;
  for (int half = 0; half < 2; ++half)
    p.b[half] = cuda::make_tensor_map(matrix(gated && half == 1 ? g.b_up : g.b, g.element, g.N, g.K, g.K),
                                      {C::kWidth / 2, kDepth});
  const DType out_dtype = C::kEpilogue == Epilogue::f32 ? DType::f32 : g.element;
  p.out = cuda::make_tensor_map(
      matrix(g.out, out_dtype, g.M, g.N, g.out_stride), {16, C::kChunk},
      C::kChunkBytes == 16 * 128 ? cuda::TmaSwizzle::span128 : cuda::TmaSwizzle::span64);
  const auto ceil_div = [](int a, int b) { return (a + b - 1) / b; };
  p.half_step = gated ? 0 : C::kWidth / 2;
  p.columns = g.N;
  const int row_tiles = ceil_div(g.M, C::kHeight * tile.rows), column_tiles = ceil_div(g.N, C::kOutWidth);
  p.order = device::TileOrder(row_tiles, column_tiles, kGroupRows / (C::kHeight * tile.rows));
  p.units = row_tiles * column_tiles;
  for (int part = 0; part <= tile.splits; ++part) p.begin[part] = ceil_div(g.K, kDepth) * part / tile.splits;
  p.bias = g.bias;
  p.bias_up = g.bias_up;
  p.activated = g.activation.has_value();
  if (p.activated) p.activation = sigmoid_form(*g.activation);
  p.add = g.kind == GemmSm90::Out::f32_add;
  cuda::LaunchConfig config{.block = dim3(C::kThreads),
                            .smem = device::smem_bytes<Storage<C>>(),
                            .stream = context.stream().get(),
                            .cluster = p.cluster.size(),
                            .pdl = true};
  p.clusters =
      C::kSplit ? p.units : std::min(p.units, clusters_at_a_time<C>(config, context.caps().sm_count));
  config.grid = dim3(static_cast<unsigned>(p.clusters * p.cluster.size()));
  cuda::launch(gemm<C>, config, p);
}

template <class Element, Epilogue kEpilogue>
void launch_ping_pong(const GemmSm90& g, GemmTile tile, Context& context) {
  constexpr auto kSchedule = GemmSchedule::ping_pong;
  if (tile.width == 128)
    return launch<Config<Element, 128, kEpilogue, false, 128, kSchedule>>(g, tile, context);
  launch<Config<Element, 192, kEpilogue, false, 128, kSchedule>>(g, tile, context);
}

template <class Element, Epilogue kEpilogue>
void launch_tile(const GemmSm90& g, GemmTile tile, Context& context) {
  if (tile.schedule == GemmSchedule::ping_pong) return launch_ping_pong<Element, kEpilogue>(g, tile, context);
  if (tile.splits > 1) {
    switch (tile.width) {
      case 96: return launch<Config<Element, 96, kEpilogue, true>>(g, tile, context);
      case 128: return launch<Config<Element, 128, kEpilogue, true>>(g, tile, context);
      case 192: return launch<Config<Element, 192, kEpilogue, true>>(g, tile, context);
      default: return launch<Config<Element, 256, kEpilogue, true>>(g, tile, context);
    }
  }
  if (tile.height == 64) {
    switch (tile.width) {
      case 96: return launch<Config<Element, 96, kEpilogue, false, 64>>(g, tile, context);
      case 128: return launch<Config<Element, 128, kEpilogue, false, 64>>(g, tile, context);
      default: return launch<Config<Element, 160, kEpilogue, false, 64>>(g, tile, context);
    }
  }
  switch (tile.width) {
    case 96: return launch<Config<Element, 96, kEpilogue, false>>(g, tile, context);
    case 128: return launch<Config<Element, 128, kEpilogue, false>>(g, tile, context);
    case 160: return launch<Config<Element, 160, kEpilogue, false>>(g, tile, context);
    case 192: return launch<Config<Element, 192, kEpilogue, false>>(g, tile, context);
    case 224: return launch<Config<Element, 224, kEpilogue, false>>(g, tile, context);
    default: return launch<Config<Element, 256, kEpilogue, false>>(g, tile, context);
  }
}

template <class Element>
void run(const GemmSm90& g, GemmTile tile, Context& context) {
  if (g.b_up != nullptr) {
    if (tile.schedule == GemmSchedule::ping_pong)
      return launch_ping_pong<Element, Epilogue::gated>(g, tile, context);
    switch (tile.width) {
      case 128: return launch<Config<Element, 128, Epilogue::gated, false>>(g, tile, context);
      case 192: return launch<Config<Element, 192, Epilogue::gated, false>>(g, tile, context);
      default: return launch<Config<Element, 256, Epilogue::gated, false>>(g, tile, context);
    }
  }
  if (g.kind == GemmSm90::Out::element) return launch_tile<Element, Epilogue::element>(g, tile, context);
  launch_tile<Element, Epilogue::f32>(g, tile, context);
}

}  // namespace llamita::gemm_sm90_detail
