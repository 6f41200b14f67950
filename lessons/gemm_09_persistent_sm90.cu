// Step 9: one block an SM stays for the whole matrix; pairs of blocks share B; results leave through the copy
// engine.
//
// Tiles, roles and ring as in step 8. New: (a) persistent: the producer loads the next tile's first stages
// while the consumers still store this one. (b) tiles in groups of eight rows, so that the SMs' working set
// stays in L2. (c) a cluster of two blocks, neighbours in M, needs the same 256 rows of B: each loads half
// and the copy engine writes it to both, so L2 sends 32 KB a step instead of 48 to each SM. A stage is free
// when the consumers of both blocks let it go. (d) epilogue: stmatrix into swizzled 64x64 chunks, two buffers
// a warpgroup, TMA stores them while the next is made. Shared memory: 4 x 48 KB ring + 32 KB chunks. Bound
// by: the power-limited rate of wgmma, less the epilogue.
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

constexpr int kTileM = 128;
constexpr int kTileN = 256;
constexpr int kDepth = 64;
constexpr int kStages = 4;
constexpr int kConsumers = 2;
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kBytesA = kTileM * device::kSwizzleRowBytes;
constexpr int kBytesB = kTileN * device::kSwizzleRowBytes;
constexpr int kChunkBytes = 64 * device::kSwizzleRowBytes;
constexpr int kGroupRows = 8;

struct Params {
  CUtensorMap a;  // (M, K), box (128, 64)
  CUtensorMap b;  // (N, K), box (256 / cluster, 64)
  CUtensorMap c;  // (M, N), box (64, 64)
  int row_tiles;  // in clusters
  int column_tiles;
  int blocks;  // of 64 along K
};

struct Storage {
  uint8_t a[kStages][kBytesA];
  uint8_t b[kStages][kBytesB];
  uint8_t chunk[kConsumers][2][kChunkBytes];
  device::Ring<kStages> ring;
};
static_assert(smem_bytes<Storage>() <= 232448, "the shared memory of a block on sm_90");

// The tiles of this block: first, then every (grid / cluster)th.
template <int kCluster, class Visit>
__device__ __forceinline__ void for_each_tile(const Params& p, uint32_t rank, Visit visit) {
  const int tiles = p.row_tiles * p.column_tiles;
  for (int i = blockIdx.x / kCluster; i < tiles; i += gridDim.x / kCluster) {
    const int2 tile = device::grouped_tile(i, p.row_tiles, p.column_tiles, kGroupRows / kCluster);
    visit((tile.x * kCluster + static_cast<int>(rank)) * kTileM, tile.y * kTileN);
  }
}

template <int kCluster>
__device__ __forceinline__ void produce(const Params& p, Storage& s, uint32_t rank) {
  constexpr int kShareRows = kTileN / kCluster;
  constexpr int kShareBytes = kBytesB / kCluster;
  device::RingCursor<kStages> at;
  for_each_tile<kCluster>(p, rank, [&](int row0, int column0) {
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      const uint32_t stage = at.stage();
      s.ring.acquire(at, kBytesA + kBytesB);
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

// Every block whose producer writes our stage is told by each of our warps.
template <int kCluster>
__device__ __forceinline__ void release(Storage& s, uint32_t stage, int thread) {
  const int lane = thread % 32;
  if constexpr (kCluster == 1) {
    if (lane == 0) s.ring.release(stage);
  } else {
    if (lane < kCluster) s.ring.release_cluster(stage, lane);
  }
}

// 64 x 256 of C through two chunk buffers. Barrier 1 + consumer is this warpgroup's own.
__device__ __forceinline__ void store_tile(const Params& p, uint8_t (&chunks)[2][kChunkBytes],
                                           const float (&sum)[kTileN / 2], int row0, int column0,
                                           int consumer, int thread) {
#pragma unroll
  for (int chunk = 0; chunk < kTileN / 64; ++chunk) {
    uint8_t* buffer = chunks[chunk % 2];
    if (thread == 0) ptx::tma_store_wait_read<1>();  // the store before last, from this buffer, has been read
    ptx::named_barrier_sync(1 + consumer, 128);
    device::store_chunk_bf16(buffer, sum, chunk, thread);
    ptx::fence_proxy_async_smem();
    ptx::named_barrier_sync(1 + consumer, 128);
    if (thread == 0) {
      ptx::tma_store_2d(&p.c, buffer, column0 + chunk * 64, row0);
      ptx::tma_store_commit();
    }
  }
}

template <int kCluster>
__device__ __forceinline__ void consume(const Params& p, Storage& s, uint32_t rank, int consumer) {
  const int thread = threadIdx.x % 128;
  device::RingCursor<kStages> at;
  for_each_tile<kCluster>(p, rank, [&](int row0, int column0) {
    float sum[kTileN / 2];
    uint32_t former = 0;
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      s.ring.wait_full(at);
      ptx::wgmma_fence();
      device::wgmma_k64<__nv_bfloat16, kTileN>(
          sum, device::wgmma_descriptor(s.a[at.stage()]) + consumer * device::kDescriptor64Rows,
          device::wgmma_descriptor(s.b[at.stage()]), block > 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (block > 0) release<kCluster>(s, former, thread);
      former = at.stage();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(sum);
    release<kCluster>(s, former, thread);
    store_tile(p, s.chunk[consumer], sum, row0 + consumer * 64, column0, consumer, thread);
  });
  if (thread == 0) ptx::tma_store_wait<0>();
}

template <int kCluster>
__global__ void __launch_bounds__(kThreads, 1) persistent(const __grid_constant__ Params p) {
  Storage& s = shared_storage<Storage>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t rank = kCluster > 1 ? ptx::cluster_rank() : 0;
  if (threadIdx.x == 0) s.ring.init(kConsumers * 4 * kCluster);
  if constexpr (kCluster > 1)
    ptx::cluster_sync();  // no block may send to barriers that are not there yet
  else
    __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<40>();
    if (threadIdx.x == 0) produce<kCluster>(p, s, rank);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume<kCluster>(p, s, rank, group - 1);
  }
  if constexpr (kCluster > 1)
    ptx::cluster_sync();  // no block may leave while its partner still releases into it
}

template <int kCluster>
void run(const Gemm& p, const GemmContext& context) {
  const GemmTensors t = tensors_of(p);
  Params params{};
  params.a = cuda::make_tensor_map(t.a, {kTileM, kDepth});
  params.b = cuda::make_tensor_map(t.b, {kTileN / kCluster, kDepth});
  params.c = cuda::make_tensor_map(t.c, {64, 64});
  params.row_tiles = (p.m + kTileM * kCluster - 1) / (kTileM * kCluster);
  params.column_tiles = (p.n + kTileN - 1) / kTileN;
  params.blocks = (p.k + kDepth - 1) / kDepth;
  const int clusters = min(context.sm_count / kCluster, params.row_tiles * params.column_tiles);
  cuda::launch(persistent<kCluster>,
               {.grid = dim3(clusters * kCluster),
                .block = dim3(kThreads),
                .smem = smem_bytes<Storage>(),
                .stream = context.stream,
                .cluster = kCluster},
               params);
}

}  // namespace

void gemm_09_persistent(const Gemm& p, const GemmContext& context) {
  const int rows = (p.m + kTileM - 1) / kTileM;
  if (rows % 2 == 0)
    run<2>(p, context);
  else
    run<1>(p, context);  // a pair would compute a tile of nothing
}

}  // namespace llamita::lessons
