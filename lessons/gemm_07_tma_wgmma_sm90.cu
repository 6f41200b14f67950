// Step 7: Hopper's own units. One thread asks the copy engine (TMA) for whole tiles; wgmma multiplies
// 64x128x16 straight from shared memory, asynchronously, four warps at a time.
//
// Block 128x128x64, two warpgroups, each 64x128 of C (64 accumulators a thread). Ring of four stages of 32
// KB: full barriers say that a stage's bytes have landed; a block barrier each step says that its readers are
// done, after which thread 0 asks for the block four ahead. No thread computes a global address and ragged
// edges are the copy engine's. Bound by: that block barrier, which stops both warpgroups while one thread
// issues the next loads.
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
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
constexpr int kStages = 4;
constexpr int kThreads = 256;
constexpr int kTileBytes = kTile * device::kSwizzleRowBytes;

struct Params {
  CUtensorMap a;  // (M, K), box (128, 64)
  CUtensorMap b;  // (N, K), box (128, 64)
  __nv_bfloat16* c;
  int m, n, k;
};

struct Storage {
  uint8_t a[kStages][kTileBytes];
  uint8_t b[kStages][kTileBytes];
  device::Ring<kStages> ring;
};

__global__ void __launch_bounds__(kThreads) tma_wgmma(const __grid_constant__ Params p) {
  Storage& s = shared_storage<Storage>();
  const int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  const int group = threadIdx.x / 128;
  const int blocks = (p.k + kDepth - 1) / kDepth;
  const bool leader = threadIdx.x == 0;
  if (leader) s.ring.init(1);
  __syncthreads();

  auto load = [&](int block) {
    const int stage = block % kStages;
    ptx::mbarrier_arrive_expect_tx(&s.ring.full[stage], 2 * kTileBytes);
    ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, row0, &s.ring.full[stage]);
    ptx::tma_load_2d(s.b[stage], &p.b, block * kDepth, column0, &s.ring.full[stage]);
  };
  if (leader)
    for (int block = 0; block < min(kStages, blocks); ++block) load(block);

  float sum[kTile / 2];
  device::RingCursor<kStages> at;
  for (int block = 0; block < blocks; ++block, at.advance()) {
    s.ring.wait_full(at);
    ptx::wgmma_fence();
    device::wgmma_k64<__nv_bfloat16, kTile>(
        sum, device::wgmma_descriptor(s.a[at.stage()]) + group * device::kDescriptor64Rows,
        device::wgmma_descriptor(s.b[at.stage()]), block > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();  // the block before is done, this one goes on
    __syncthreads();
    if (leader && block > 0 && block - 1 + kStages < blocks) load(block - 1 + kStages);
  }
  ptx::wgmma_wait<0>();
  ptx::wgmma_pin(sum);
  store_direct(p.c, sum, row0 + group * 64, column0, p.m, p.n, threadIdx.x % 128);
}

}  // namespace

void gemm_07_tma_wgmma(const Gemm& p, const GemmContext& context) {
  const GemmTensors t = tensors_of(p);
  const Params params{cuda::make_tensor_map(t.a, {kTile, kDepth}),
                      cuda::make_tensor_map(t.b, {kTile, kDepth}),
                      p.c,
                      p.m,
                      p.n,
                      p.k};
  const dim3 grid((p.n + kTile - 1) / kTile, (p.m + kTile - 1) / kTile);
  cuda::launch(
      tma_wgmma,
      {.grid = grid, .block = dim3(kThreads), .smem = smem_bytes<Storage>(), .stream = context.stream},
      params);
}

}  // namespace llamita::lessons
