// Step 12: fewer tiles than SMs. A cluster of 2 or 4 blocks shares one tile of C: each multiplies its part of
// K, leaves its sums in its shared memory, and the blocks add them through the cluster's network, each its
// share of the rows. 256x4096 in tiles of 128x128 is 64 tiles; split by 2 it is 128 blocks.
//
// The order of the sum is that of the blocks' ranks, so the result is the same in every run; no memory beside
// C, no counters. Blocks: one producer and two consumer warpgroups as in step 8; fp32 sums overlay the ring,
// in rows of width + 8 so that a warp's stores meet no bank twice. Invariant: a block's ring is dead before
// its sums overwrite it (all its loads were awaited, both consumers met at barrier 1), and no block leaves
// before the others have read from it. A model chooses between this and step 11. Bound by: L2 on the way in,
// the latency of prologue and exchange.
#include <cuda_runtime_api.h>

#include <cmath>

#include "hw/cuda/check.h"
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
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
constexpr int kSharedBytes = 232448 - 2048;

template <int kWide, int kParts>
struct Config {
  static constexpr int kWidth = kWide;
  static constexpr int kSplit = kParts;
  static constexpr int kBytesA = kTileM * device::kSwizzleRowBytes;
  static constexpr int kBytesB = kWidth * device::kSwizzleRowBytes;
  static constexpr int kStages = kSharedBytes / (kBytesA + kBytesB);
  static constexpr int kPitch = kWidth + 8;  // floats
};

struct Params {
  CUtensorMap a;  // (M, K), box (128, 64)
  CUtensorMap b;  // (N, K), box (width, 64)
  __nv_bfloat16* c;
  int m, n;
  int row_tiles;
  int blocks;  // of 64 along K
};

template <class C>
struct Storage {
  union {
    struct {
      uint8_t a[C::kStages][C::kBytesA];
      uint8_t b[C::kStages][C::kBytesB];
    };
    float sums[kTileM][C::kPitch];
  };
  device::Ring<C::kStages> ring;
};

struct Part {  // blocks of K
  int begin;
  int end;
};

template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s, Part part, int row0, int column0) {
  device::RingCursor<C::kStages> at;
  for (int block = part.begin; block < part.end; ++block, at.advance()) {
    const uint32_t stage = at.stage();
    s.ring.acquire(at, C::kBytesA + C::kBytesB);
    ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, row0, &s.ring.full[stage]);
    ptx::tma_load_2d(s.b[stage], &p.b, block * kDepth, column0, &s.ring.full[stage]);
  }
}

template <class C>
__device__ __forceinline__ void consume(Storage<C>& s, Part part, int consumer) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  float sum[C::kWidth / 2];
  device::RingCursor<C::kStages> at;
  uint32_t former = 0;
  for (int block = part.begin; block < part.end; ++block, at.advance()) {
    s.ring.wait_full(at);
    ptx::wgmma_fence();
    device::wgmma_k64<__nv_bfloat16, C::kWidth>(
        sum, device::wgmma_descriptor(s.a[at.stage()]) + consumer * device::kDescriptor64Rows,
        device::wgmma_descriptor(s.b[at.stage()]), block > part.begin);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (block > part.begin && lane == 0) s.ring.release(former);
    former = at.stage();
  }
  ptx::wgmma_wait<0>();
  ptx::wgmma_pin(sum);
  ptx::named_barrier_sync(1, 128 * kConsumers);
  const int row = consumer * 64 + thread / 32 * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < C::kWidth / 8; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      *reinterpret_cast<float2*>(&s.sums[row + 8 * half][8 * j + lane % 4 * 2]) =
          make_float2(sum[4 * j + 2 * half], sum[4 * j + 2 * half + 1]);
}

// This block's share of the rows: all blocks' sums, in the order of their ranks. Eight columns a thread.
template <class C>
__device__ __forceinline__ void add_and_store(const Params& p, const Storage<C>& s, uint32_t rank, int row0,
                                              int column0) {
  constexpr int kRows = kTileM / C::kSplit, kPieces = C::kWidth / 8;
  for (int i = threadIdx.x - 128; i < kRows * kPieces; i += 128 * kConsumers) {
    const int row = static_cast<int>(rank) * kRows + i / kPieces, column = i % kPieces * 8;
    if (row0 + row >= p.m || column0 + column >= p.n) continue;
    const uint32_t own = ptx::smem_address(&s.sums[row][column]);
    float4 low[C::kSplit], high[C::kSplit];
#pragma unroll
    for (int part = 0; part < C::kSplit; ++part) {
      const uint32_t address = ptx::cluster_address(own, part);
      low[part] = ptx::load_cluster_float4(address);
      high[part] = ptx::load_cluster_float4(address + 16);
    }
#pragma unroll
    for (int part = 1; part < C::kSplit; ++part) {
      low[0].x += low[part].x, low[0].y += low[part].y, low[0].z += low[part].z, low[0].w += low[part].w;
      high[0].x += high[part].x, high[0].y += high[part].y;
      high[0].z += high[part].z, high[0].w += high[part].w;
    }
    const uint4 packed =
        make_uint4(device::pack_bf16(low[0].x, low[0].y), device::pack_bf16(low[0].z, low[0].w),
                   device::pack_bf16(high[0].x, high[0].y), device::pack_bf16(high[0].z, high[0].w));
    *reinterpret_cast<uint4*>(p.c + size_t(row0 + row) * p.n + column0 + column) = packed;
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) split_k(const __grid_constant__ Params p) {
  auto& s = shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t rank = ptx::cluster_rank();
  const int tile = blockIdx.x / C::kSplit;  // down the rows first: neighbours read the same weights
  const int row0 = tile % p.row_tiles * kTileM, column0 = tile / p.row_tiles * C::kWidth;
  const Part part{p.blocks * static_cast<int>(rank) / C::kSplit,
                  p.blocks * static_cast<int>(rank + 1) / C::kSplit};
  if (threadIdx.x == 0) s.ring.init(kConsumers * 4);
  __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<40>();
    if (threadIdx.x == 0) produce<C>(p, s, part, row0, column0);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume<C>(s, part, group - 1);
  }
  ptx::cluster_sync();  // all blocks' sums are there
  if (group > 0) add_and_store<C>(p, s, rank, row0, column0);
  ptx::cluster_sync();  // nobody reads from this block any more
}

template <class C>
void launch_split(const Gemm& p, const GemmContext& context) {
  static_assert(smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const GemmTensors t = tensors_of(p);
  Params params{};
  params.a = cuda::make_tensor_map(t.a, {kTileM, kDepth});
  params.b = cuda::make_tensor_map(t.b, {C::kWidth, kDepth});
  params.c = p.c;
  params.m = p.m;
  params.n = p.n;
  params.row_tiles = (p.m + kTileM - 1) / kTileM;
  params.blocks = (p.k + kDepth - 1) / kDepth;
  const int tiles = params.row_tiles * ((p.n + C::kWidth - 1) / C::kWidth);
  cuda::launch(split_k<C>,
               {.grid = dim3(tiles * C::kSplit),
                .block = dim3(kThreads),
                .smem = smem_bytes<Storage<C>>(),
                .stream = context.stream,
                .cluster = C::kSplit},
               params);
}

// How many clusters the card holds at once: clusters of four do not fill every group of SMs.
template <class C>
int active_clusters() {
  static const int count = [] {
    LLAMITA_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(split_k<C>),
                                            cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(smem_bytes<Storage<C>>())));
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = C::kSplit;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(C::kSplit);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = smem_bytes<Storage<C>>();
    config.attrs = &attribute;
    config.numAttrs = 1;
    int clusters = 0;
    LLAMITA_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&clusters, split_k<C>, &config));
    return clusters;
  }();
  return count;
}

// Calls visit<Config> for the choice's kernel.
template <class Visit>
auto with_config(TileChoice choice, Visit visit) {
  if (choice.split == 4)
    return choice.width == 192 ? visit.template operator()<Config<192, 4>>()
                               : visit.template operator()<Config<256, 4>>();
  switch (choice.width) {
    case 128: return visit.template operator()<Config<128, 2>>();
    case 160: return visit.template operator()<Config<160, 2>>();
    case 192: return visit.template operator()<Config<192, 2>>();
    default: return visit.template operator()<Config<256, 2>>();
  }
}

constexpr TileChoice kChoices[] = {{256, 1}, {224, 1}, {192, 1}, {160, 1}, {128, 1}, {256, 2},
                                   {192, 2}, {160, 2}, {128, 2}, {256, 4}, {192, 4}};

}  // namespace

std::span<const TileChoice> gemm_tile_choices() { return kChoices; }

double split_cycles(const Gemm& p, TileChoice choice) {
  const double blocks = std::ceil(p.k / 64.0);
  if (blocks < choice.split) return INFINITY;
  const double tiles = std::ceil(p.m / 128.0) * std::ceil(static_cast<double>(p.n) / choice.width);
  const int clusters = with_config(choice, [&]<class C>() { return active_clusters<C>(); });
  if (clusters == 0) return INFINITY;
  const double sum_bytes = 128.0 * choice.width * 4;
  // Written at 64 bytes a clock, read through the network at 20; prologue and two cluster barriers each wave.
  const double exchange = sum_bytes / 64 + sum_bytes * (choice.split - 1) / choice.split / 20;
  return std::ceil(tiles / clusters) *
         (2500 + std::ceil(blocks / choice.split) * step_cycles(choice.width, choice.width) + exchange);
}

void run_split(const Gemm& p, TileChoice choice, const GemmContext& context) {
  with_config(choice, [&]<class C>() { launch_split<C>(p, context); });
}

double choice_cycles(const Gemm& p, TileChoice choice, const GemmContext& context) {
  return choice.split == 1 ? persistent_cycles(p, choice.width, context) : split_cycles(p, choice);
}

void run_choice(const Gemm& p, TileChoice choice, const GemmContext& context) {
  if (choice.split == 1)
    run_persistent(p, choice.width, context);
  else
    run_split(p, choice, context);
}

void gemm_12_split_k(const Gemm& p, const GemmContext& context) {
  TileChoice best = kChoices[0];
  for (const TileChoice& choice : kChoices)
    if (choice_cycles(p, choice, context) < choice_cycles(p, best, context)) best = choice;
  run_choice(p, best, context);
}

}  // namespace llamita::lessons
