// Step 10: two consumers take turns. Each owns whole tiles of 128x128, so while one stores its result the
// other has the tensor cores to itself: the epilogue is hidden.
//
// Tiles of this block go to consumer 0 and 1 alternately, 2 x m64n128k16 a step (128 accumulators a thread).
// The producer fills the ring in the order of the tiles; where a consumer enters follows from the number of
// tiles before its own (RingCursor). Invariant: a consumer waits for a stage's round only when the round
// before it has landed, for a parity cannot tell round r from round r - 2. The former tile's rounds are seen
// by the other consumer, so it hands over the turn (Storage::turn) once it has seen its last one: its last
// multiplies and its whole epilogue run beside ours, and the tensor cores meet one main loop at a time.
// Clusters of two share B as in step 9: without, a 128x128 tile would need 64 bytes a clock from L2. Shared
// memory: 6 x 32 KB ring + 2 x 16 KB chunks. Bound by: the rate of wgmma; a 128x128 tile reads more shared
// memory a product than 128x256, so step 9 wins where K is long and this one where K is short.
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/tile_order.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/tensor_map.h"
#include "lessons/gemm.h"
#include "lessons/gemm_parts.cuh"
#include "lessons/gemm_tensors.h"

namespace llamita::lessons {

namespace {

constexpr int kTile = 128;
constexpr int kDepth = 64;
constexpr int kStages = 6;
constexpr int kThreads = 384;
constexpr int kTileBytes = kTile * device::kSwizzleRowBytes;
constexpr int kChunkBytes = 64 * device::kSwizzleRowBytes;
constexpr int kGroupRows = 8;

struct Params {
  CUtensorMap a;  // (M, K), box (128, 64)
  CUtensorMap b;  // (N, K), box (128 / cluster, 64)
  CUtensorMap c;  // (M, N), box (64, 64)
  int row_tiles;  // in clusters
  int column_tiles;
  int blocks;  // of 64 along K
};

struct Storage {
  uint8_t a[kStages][kTileBytes];
  uint8_t b[kStages][kTileBytes];
  uint8_t chunk[2][2][kChunkBytes];
  device::Ring<kStages> ring;
  uint64_t turn[2];  // of each consumer; a phase a tile, completed by the other's four warps
};
static_assert(smem_bytes<Storage>() <= 232448, "the shared memory of a block on sm_90");

// Tile number j of this block, j = first, first + step ...: visit(j, row, column).
template <int kCluster, class Visit>
__device__ __forceinline__ void for_each_tile(const Params& p, uint32_t rank, int first, int step,
                                              Visit visit) {
  const int tiles = p.row_tiles * p.column_tiles;
  const int stride = gridDim.x / kCluster;
  int j = first;
  for (int i = blockIdx.x / kCluster + first * stride; i < tiles; i += step * stride, j += step) {
    const int2 tile = device::grouped_tile(i, p.row_tiles, p.column_tiles, kGroupRows / kCluster);
    visit(j, (tile.x * kCluster + static_cast<int>(rank)) * kTile, tile.y * kTile);
  }
}

template <int kCluster>
__device__ __forceinline__ void produce(const Params& p, Storage& s, uint32_t rank) {
  constexpr int kShareRows = kTile / kCluster;
  constexpr int kShareBytes = kTileBytes / kCluster;
  device::RingCursor<kStages> at;
  for_each_tile<kCluster>(p, rank, 0, 1, [&](int, int row0, int column0) {
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      const uint32_t stage = at.stage();
      s.ring.acquire(at, 2 * kTileBytes);
      ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, row0, &s.ring.full[stage]);
      if constexpr (kCluster == 1)
        ptx::tma_load_2d(s.b[stage], &p.b, block * kDepth, column0, &s.ring.full[stage]);
      else
        ptx::tma_load_2d_multicast(s.b[stage] + rank * kShareBytes, &p.b, block * kDepth,
                                   column0 + static_cast<int>(rank) * kShareRows, &s.ring.full[stage],
                                   (1 << kCluster) - 1);
    }
  });
}

template <int kCluster>
__device__ __forceinline__ void release(Storage& s, uint32_t stage, int thread) {
  const int lane = thread % 32;
  if constexpr (kCluster == 1) {
    if (lane == 0) s.ring.release(stage);
  } else {
    if (lane < kCluster) s.ring.release_cluster(stage, lane);
  }
}

// 128 x 128 of C as four chunks through two buffers.
__device__ __forceinline__ void store_tile(const Params& p, uint8_t (&chunks)[2][kChunkBytes],
                                           const float (&upper)[kTile / 2], const float (&lower)[kTile / 2],
                                           int row0, int column0, int consumer, int thread) {
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    uint8_t* buffer = chunks[chunk % 2];
    if (thread == 0) ptx::tma_store_wait_read<1>();
    ptx::named_barrier_sync(1 + consumer, 128);
    device::store_chunk_bf16(buffer, chunk < 2 ? upper : lower, chunk % 2, thread);
    ptx::fence_proxy_async_smem();
    ptx::named_barrier_sync(1 + consumer, 128);
    if (thread == 0) {
      ptx::tma_store_2d(&p.c, buffer, column0 + chunk % 2 * 64, row0 + chunk / 2 * 64);
      ptx::tma_store_commit();
    }
  }
}

template <int kCluster>
__device__ __forceinline__ void consume(const Params& p, Storage& s, uint32_t rank, int consumer) {
  const int thread = threadIdx.x % 128;
  for_each_tile<kCluster>(p, rank, consumer, 2, [&](int j, int row0, int column0) {
    float upper[kTile / 2], lower[kTile / 2];
    device::RingCursor<kStages> at(static_cast<uint32_t>(j) * static_cast<uint32_t>(p.blocks));
    uint32_t former = 0;
    // Tile j is phase j / 2 of our turn. Consumer 1 waits for consumer 0's tile j - 1 in that phase, consumer
    // 0 for consumer 1's in the phase before, which for its first tile is the one that passes at once.
    ptx::mbarrier_wait(&s.turn[consumer], (j / 2 + 1 - consumer) & 1);
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      s.ring.wait_full(at);
      const uint64_t a = device::wgmma_descriptor(s.a[at.stage()]);
      const uint64_t b = device::wgmma_descriptor(s.b[at.stage()]);
      ptx::wgmma_fence();
      device::wgmma_k64<__nv_bfloat16, kTile>(upper, a, b, block > 0);
      device::wgmma_k64<__nv_bfloat16, kTile>(lower, a + device::kDescriptor64Rows, b, block > 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (block > 0) release<kCluster>(s, former, thread);
      former = at.stage();
    }
    if (thread % 32 == 0) ptx::mbarrier_arrive(&s.turn[consumer ^ 1]);  // the warp has seen its last round
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(upper);
    ptx::wgmma_pin(lower);
    release<kCluster>(s, former, thread);
    store_tile(p, s.chunk[consumer], upper, lower, row0, column0, consumer, thread);
  });
  if (thread == 0) ptx::tma_store_wait<0>();
}

template <int kCluster>
__global__ void __launch_bounds__(kThreads, 1) ping_pong(const __grid_constant__ Params p) {
  Storage& s = shared_storage<Storage>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t rank = kCluster > 1 ? ptx::cluster_rank() : 0;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&s.turn[0], 4);
    ptx::mbarrier_init(&s.turn[1], 4);
    s.ring.init(4 * kCluster);  // one consumer, four warps, in each block; also publishes the turns
  }
  if constexpr (kCluster > 1)
    ptx::cluster_sync();
  else
    __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<40>();
    if (threadIdx.x == 0) produce<kCluster>(p, s, rank);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume<kCluster>(p, s, rank, group - 1);
  }
  if constexpr (kCluster > 1) ptx::cluster_sync();
}

template <int kCluster>
void run(const Gemm& p, const GemmContext& context) {
  const GemmTensors t = tensors_of(p);
  Params params{};
  params.a = cuda::make_tensor_map(t.a, {kTile, kDepth});
  params.b = cuda::make_tensor_map(t.b, {kTile / kCluster, kDepth});
  params.c = cuda::make_tensor_map(t.c, {64, 64});
  params.row_tiles = (p.m + kTile * kCluster - 1) / (kTile * kCluster);
  params.column_tiles = (p.n + kTile - 1) / kTile;
  params.blocks = (p.k + kDepth - 1) / kDepth;
  const int clusters = min(context.sm_count / kCluster, params.row_tiles * params.column_tiles);
  cuda::launch(ping_pong<kCluster>,
               {.grid = dim3(clusters * kCluster),
                .block = dim3(kThreads),
                .smem = smem_bytes<Storage>(),
                .stream = context.stream,
                .cluster = kCluster},
               params);
}

}  // namespace

void gemm_10_ping_pong(const Gemm& p, const GemmContext& context) {
  const int rows = (p.m + kTile - 1) / kTile;
  if (rows % 2 == 0)
    run<2>(p, context);
  else
    run<1>(p, context);
}

}  // namespace llamita::lessons
