// Step 11: the width of the tile follows the problem. Step 9's tiles of 128x256 leave SMs idle where they do
// not divide the matrix into nearly whole waves: 2048x3072 is 192 tiles for 132 SMs, so two waves for the
// work of 1.45. Tiles of 128x192 are 256, two waves of three quarters the length.
//
// The kernel is step 9's with the width as a parameter: 128, 160, 192, 224 or 256 columns, the ring as deep
// as shared memory allows. A small model chooses: whole waves x (steps of K x the slower of wgmma and L2,
// plus the epilogue, which nothing hides). Epilogue: each warp stores its own 16 rows in chunks of 64 columns
// (32 where the width is no multiple of 64), so no barrier joins the warps of a group. Bound by: as step 9;
// what is left is shapes with fewer tiles than SMs (step 12).
#include <cmath>

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
#include "lessons/gemm_tiles.h"

namespace llamita::lessons {

namespace {

constexpr int kTileM = 128;
constexpr int kDepth = 64;
constexpr int kConsumers = 2;
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kGroupRows = 8;
constexpr int kSharedBytes = 232448 - 2048;  // of a block, less alignment and barriers

template <int kWide, int kBlocksPerCluster>
struct Config {
  static constexpr int kWidth = kWide;
  static constexpr int kCluster = kBlocksPerCluster;
  static constexpr int kChunk = kWidth % 64 == 0 ? 64 : 32;  // columns
  static constexpr int kChunkBytes = 16 * kChunk * 2;
  static constexpr int kBytesA = kTileM * device::kSwizzleRowBytes;
  static constexpr int kBytesB = kWidth * device::kSwizzleRowBytes;
  static constexpr int kStages = (kSharedBytes - 16 * kChunkBytes) / (kBytesA + kBytesB);
  static constexpr int kShareRows = kWidth / kCluster;
  static_assert(kShareRows % 8 == 0 && kStages >= 4);
};

struct Params {
  CUtensorMap a;  // (M, K), box (128, 64)
  CUtensorMap b;  // (N, K), box (width / cluster, 64)
  CUtensorMap c;  // (M, N), box (16, chunk)
  int row_tiles;  // in clusters
  int column_tiles;
  int blocks;  // of 64 along K
};

template <class C>
struct Storage {
  uint8_t a[C::kStages][C::kBytesA];
  uint8_t b[C::kStages][C::kBytesB];
  uint8_t chunk[4 * kConsumers][2][C::kChunkBytes];
  device::Ring<C::kStages> ring;
};

template <class C, class Visit>
__device__ __forceinline__ void for_each_tile(const Params& p, uint32_t rank, Visit visit) {
  const int tiles = p.row_tiles * p.column_tiles;
  for (int i = blockIdx.x / C::kCluster; i < tiles; i += gridDim.x / C::kCluster) {
    const int2 tile = device::grouped_tile(i, p.row_tiles, p.column_tiles, kGroupRows / C::kCluster);
    visit((tile.x * C::kCluster + static_cast<int>(rank)) * kTileM, tile.y * C::kWidth);
  }
}

template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s, uint32_t rank) {
  device::RingCursor<C::kStages> at;
  for_each_tile<C>(p, rank, [&](int row0, int column0) {
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      const uint32_t stage = at.stage();
      s.ring.acquire(at, C::kBytesA + C::kBytesB);
      ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, row0, &s.ring.full[stage]);
      if constexpr (C::kCluster == 1)
        ptx::tma_load_2d(s.b[stage], &p.b, block * kDepth, column0, &s.ring.full[stage]);
      else
        ptx::tma_load_2d_multicast(s.b[stage] + rank * C::kShareRows * device::kSwizzleRowBytes, &p.b,
                                   block * kDepth, column0 + static_cast<int>(rank) * C::kShareRows,
                                   &s.ring.full[stage], (1 << C::kCluster) - 1);
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

// The 16 bytes `piece` of row `row` of a chunk: rows of 128 bytes, or of 64, where two rows share a line of
// 128 and the permutation moves with the line.
template <class C>
__device__ __forceinline__ uint32_t chunk_piece(int row, int piece) {
  if constexpr (C::kChunk == 64) return device::swizzled_piece(row, piece);
  return row * 64 + ((piece ^ (row >> 1 & 3)) << 4);
}

// 16 x width of C through the warp's two chunk buffers, beginning with buffer `turn`: the buffers take turns
// across tiles too, since a tile may have an odd number of chunks.
template <class C>
__device__ __forceinline__ void store_rows(const Params& p, uint8_t (&chunks)[2][C::kChunkBytes],
                                           const float (&sum)[C::kWidth / 2], int row0, int column0, int turn,
                                           int lane) {
#pragma unroll
  for (int chunk = 0; chunk < C::kWidth / C::kChunk; ++chunk) {
    uint8_t* buffer = chunks[(turn + chunk) & 1];
    if (lane == 0) ptx::tma_store_wait_read<1>();  // the store before last, from this buffer, has been read
    __syncwarp();
#pragma unroll
    for (int pair = 0; pair < C::kChunk / 16; ++pair) {
      const float* v = sum + (chunk * (C::kChunk / 8) + pair * 2) * 4;
      ptx::stmatrix_x4(buffer + chunk_piece<C>(lane & 15, pair * 2 + (lane >> 4)),
                       device::pack_bf16(v[0], v[1]), device::pack_bf16(v[2], v[3]),
                       device::pack_bf16(v[4], v[5]), device::pack_bf16(v[6], v[7]));
    }
    ptx::fence_proxy_async_smem();
    __syncwarp();
    if (lane == 0) {
      ptx::tma_store_2d(&p.c, buffer, column0 + chunk * C::kChunk, row0);
      ptx::tma_store_commit();
    }
  }
}

template <class C>
__device__ __forceinline__ void consume(const Params& p, Storage<C>& s, uint32_t rank, int consumer) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
  device::RingCursor<C::kStages> at;
  int turn = 0;
  for_each_tile<C>(p, rank, [&](int row0, int column0) {
    float sum[C::kWidth / 2];
    uint32_t former = 0;
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      s.ring.wait_full(at);
      ptx::wgmma_fence();
      device::wgmma_k64<__nv_bfloat16, C::kWidth>(
          sum, device::wgmma_descriptor(s.a[at.stage()]) + consumer * device::kDescriptor64Rows,
          device::wgmma_descriptor(s.b[at.stage()]), block > 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (block > 0) release(s, former, lane);
      former = at.stage();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(sum);
    release(s, former, lane);
    store_rows<C>(p, s.chunk[consumer * 4 + warp], sum, row0 + consumer * 64 + warp * 16, column0, turn,
                  lane);
    turn += C::kWidth / C::kChunk;
  });
  if (lane == 0) ptx::tma_store_wait<0>();
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) wide_tiles(const __grid_constant__ Params p) {
  auto& s = shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t rank = C::kCluster > 1 ? ptx::cluster_rank() : 0;
  if (threadIdx.x == 0) s.ring.init(kConsumers * 4 * C::kCluster);
  if constexpr (C::kCluster > 1)
    ptx::cluster_sync();
  else
    __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<40>();
    if (threadIdx.x == 0) produce<C>(p, s, rank);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume<C>(p, s, rank, group - 1);
  }
  if constexpr (C::kCluster > 1) ptx::cluster_sync();
}

template <class C>
void run(const Gemm& p, const GemmContext& context) {
  static_assert(smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const GemmTensors t = tensors_of(p);
  Params params{};
  params.a = cuda::make_tensor_map(t.a, {kTileM, kDepth});
  params.b = cuda::make_tensor_map(t.b, {C::kShareRows, kDepth});
  params.c = cuda::make_tensor_map(t.c, {16, C::kChunk},
                                   C::kChunk == 64 ? cuda::TmaSwizzle::span128 : cuda::TmaSwizzle::span64);
  params.row_tiles = (p.m + kTileM * C::kCluster - 1) / (kTileM * C::kCluster);
  params.column_tiles = (p.n + C::kWidth - 1) / C::kWidth;
  params.blocks = (p.k + kDepth - 1) / kDepth;
  const int clusters = min(context.sm_count / C::kCluster, params.row_tiles * params.column_tiles);
  cuda::launch(wide_tiles<C>,
               {.grid = dim3(clusters * C::kCluster),
                .block = dim3(kThreads),
                .smem = smem_bytes<Storage<C>>(),
                .stream = context.stream,
                .cluster = C::kCluster},
               params);
}

// Pairs of row tiles share B, unless one of a pair would be empty.
int cluster_of(const Gemm& p) { return (p.m + kTileM - 1) / kTileM % 2 == 0 ? 2 : 1; }

template <int kWidth>
void run_width(const Gemm& p, const GemmContext& context) {
  if (cluster_of(p) == 2)
    run<Config<kWidth, 2>>(p, context);
  else
    run<Config<kWidth, 1>>(p, context);
}

}  // namespace

double persistent_cycles(const Gemm& p, int width, const GemmContext& context) {
  const int cluster = cluster_of(p);
  const double units =
      std::ceil(static_cast<double>(p.m) / (kTileM * cluster)) * std::ceil(static_cast<double>(p.n) / width);
  const double waves = std::ceil(units / (context.sm_count / cluster));
  const double epilogue = 600 + 6.0 * width;
  return 1500 + waves * (std::ceil(p.k / 64.0) * step_cycles(width, width / cluster) + epilogue);
}

void run_persistent(const Gemm& p, int width, const GemmContext& context) {
  switch (width) {
    case 128: return run_width<128>(p, context);
    case 160: return run_width<160>(p, context);
    case 192: return run_width<192>(p, context);
    case 224: return run_width<224>(p, context);
    default: return run_width<256>(p, context);
  }
}

void gemm_11_tile_widths(const Gemm& p, const GemmContext& context) {
  int best = 256;
  for (const TileChoice& choice : gemm_tile_choices())
    if (choice.split == 1 &&
        persistent_cycles(p, choice.width, context) < persistent_cycles(p, best, context))
      best = choice.width;
  run_persistent(p, best, context);
}

}  // namespace llamita::lessons
