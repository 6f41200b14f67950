// Step 8: one warpgroup does nothing but ask for data, two do nothing but multiply.
//
// Block 128x256x64: consumers c = 0, 1 own rows 64 c of the tile, m64n256k16 each (128 accumulators a
// thread). The producer runs ahead through a ring of four stages of 48 KB; full and empty barriers replace
// the block barrier, so nobody waits for anybody who is not the data's source or reader. The producer gives
// its registers to the consumers: 128 x 40 + 256 x 232 = 64,512 of the 65,536. A consumer keeps one block's
// multiplies in flight and frees the stage before. Bound by: the epilogue and the prologue, in which the
// tensor cores idle, and by L2 on the way in.
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
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
constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kBytesA = kTileM * device::kSwizzleRowBytes;
constexpr int kBytesB = kTileN * device::kSwizzleRowBytes;

struct Params {
  CUtensorMap a;  // (M, K), box (128, 64)
  CUtensorMap b;  // (N, K), box (256, 64)
  __nv_bfloat16* c;
  int m, n, k;
};

struct Storage {
  uint8_t a[kStages][kBytesA];
  uint8_t b[kStages][kBytesB];
  device::Ring<kStages> ring;
};

__device__ __forceinline__ void produce(const Params& p, Storage& s, int row0, int column0, int blocks) {
  device::RingCursor<kStages> at;
  for (int block = 0; block < blocks; ++block, at.advance()) {
    const uint32_t stage = at.stage();
    s.ring.acquire(at, kBytesA + kBytesB);
    ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, row0, &s.ring.full[stage]);
    ptx::tma_load_2d(s.b[stage], &p.b, block * kDepth, column0, &s.ring.full[stage]);
  }
}

__device__ __forceinline__ void consume(const Params& p, Storage& s, int row0, int column0, int blocks,
                                        int consumer) {
  const int thread = threadIdx.x % 128;
  float sum[kTileN / 2];
  device::RingCursor<kStages> at;
  uint32_t former = 0;  // the stage whose multiplies may still run
  for (int block = 0; block < blocks; ++block, at.advance()) {
    s.ring.wait_full(at);
    ptx::wgmma_fence();
    device::wgmma_k64<__nv_bfloat16, kTileN>(
        sum, device::wgmma_descriptor(s.a[at.stage()]) + consumer * device::kDescriptor64Rows,
        device::wgmma_descriptor(s.b[at.stage()]), block > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (block > 0 && thread % 32 == 0) s.ring.release(former);
    former = at.stage();
  }
  ptx::wgmma_wait<0>();
  ptx::wgmma_pin(sum);
  store_direct(p.c, sum, row0 + consumer * 64, column0, p.m, p.n, thread);
}

__global__ void __launch_bounds__(kThreads, 1) warp_specialised(const __grid_constant__ Params p) {
  Storage& s = shared_storage<Storage>();
  const int row0 = blockIdx.y * kTileM, column0 = blockIdx.x * kTileN;
  const int blocks = (p.k + kDepth - 1) / kDepth;
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  if (threadIdx.x == 0) s.ring.init(kConsumers * 4);  // each consumer warp releases once
  __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<40>();
    if (threadIdx.x == 0) produce(p, s, row0, column0, blocks);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume(p, s, row0, column0, blocks, group - 1);
  }
}

}  // namespace

void gemm_08_warp_specialised(const Gemm& p, const GemmContext& context) {
  const GemmTensors t = tensors_of(p);
  const Params params{cuda::make_tensor_map(t.a, {kTileM, kDepth}),
                      cuda::make_tensor_map(t.b, {kTileN, kDepth}),
                      p.c,
                      p.m,
                      p.n,
                      p.k};
  const dim3 grid((p.n + kTileN - 1) / kTileN, (p.m + kTileM - 1) / kTileM);
  cuda::launch(
      warp_specialised,
      {.grid = grid, .block = dim3(kThreads), .smem = smem_bytes<Storage>(), .stream = context.stream},
      params);
}

}  // namespace llamita::lessons
