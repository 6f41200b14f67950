// Step 6: loads run ahead of the tensor cores. The peak form of sm_80 cards.
//
// Block 128x256x64, eight warps in 2 x 4, each 64x64 of C as 4 x 8 fragments (128 accumulators). cp.async
// fills three stages of 48 KB, two blocks of K ahead, with one barrier a block; rows are 128 bytes in the
// 128-byte swizzle, so ldmatrix reads a whole fragment without bank conflicts. The fragments of the next 16
// of K load while the current ones multiply. Bound by: mma.sync itself, which on Hopper reaches only about 60
// % of the tensor cores' rate.
#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "hw/cuda/launch.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

constexpr int kTileM = 128;
constexpr int kTileN = 256;
constexpr int kDepth = 64;  // 128 bytes: one row of the swizzle
constexpr int kThreads = 256;
constexpr int kStages = 3;

struct Stage {
  uint8_t a[kTileM * device::kSwizzleRowBytes];
  uint8_t b[kTileN * device::kSwizzleRowBytes];
};

// A thread brings piece t % 8 of every 32nd row from row t / 8 on.
template <int kRows>
__device__ __forceinline__ void load_tile(uint8_t* tile, const __nv_bfloat16* matrix, int first_row, int rows,
                                          int k0, int k) {
  const int piece = threadIdx.x % 8;
  const int column = k0 + piece * 8;
#pragma unroll
  for (int i = 0; i < kRows / 32; ++i) {
    const int row = threadIdx.x / 8 + i * 32;
    const bool inside = first_row + row < rows && column < k;
    const __nv_bfloat16* source = inside ? matrix + size_t(first_row + row) * k + column : matrix;
    ptx::cp_async_16(tile + device::swizzled_piece(row, piece), source, inside);
  }
}

struct Fragments {
  uint32_t a[4][4];
  uint32_t b[4][4];  // each entry serves two 8-column blocks
};

__device__ __forceinline__ void load_fragments(Fragments& f, const Stage& stage, int warp_row,
                                               int warp_column, int k16, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    device::load_a_fragment(f.a[i], stage.a, warp_row + i * 16, k16, lane);
    device::load_b_fragments(f.b[i], stage.b, warp_column + i * 16, k16, lane);
  }
}

__device__ __forceinline__ void multiply(float (&sum)[4][8][4], const Fragments& f) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j)
      ptx::mma_m16n8k16<__nv_bfloat16>(sum[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
}

__device__ __forceinline__ void store(const Gemm& p, const float (&sum)[4][8][4], int row0, int column0,
                                      int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + i * 16 + lane / 4 + half * 8;
        const int column = column0 + j * 8 + lane % 4 * 2;
        if (row < p.m && column < p.n)
          *reinterpret_cast<__nv_bfloat162*>(p.c + size_t(row) * p.n + column) =
              __floats2bfloat162_rn(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
      }
}

__global__ void __launch_bounds__(kThreads, 1) cp_async(Gemm p) {
  extern __shared__ __align__(1024) uint8_t smem[];
  auto* stages = reinterpret_cast<Stage*>(smem);
  const int row0 = blockIdx.y * kTileM, column0 = blockIdx.x * kTileN;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp / 4 * 64, warp_column = warp % 4 * 64;
  const int blocks = (p.k + kDepth - 1) / kDepth;

  // Groups are committed even when empty, so that "all but the newest kStages - 2" always means the same
  // block.
  auto load = [&](int block) {
    if (block < blocks) {
      Stage& stage = stages[block % kStages];
      load_tile<kTileM>(stage.a, p.a, row0, p.m, block * kDepth, p.k);
      load_tile<kTileN>(stage.b, p.b, column0, p.n, block * kDepth, p.k);
    }
    ptx::cp_async_commit();
  };
  for (int s = 0; s < kStages - 1; ++s) load(s);

  float sum[4][8][4] = {};
  for (int block = 0; block < blocks; ++block) {
    ptx::cp_async_wait<kStages - 2>();
    __syncthreads();  // this block's stage is there for all, and all are done with the stage that is loaded
                      // next
    load(block + kStages - 1);
    const Stage& stage = stages[block % kStages];
    Fragments fragments[2];
    load_fragments(fragments[0], stage, warp_row, warp_column, 0, lane);
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; ++k16) {
      if (k16 + 1 < kDepth / 16)
        load_fragments(fragments[(k16 + 1) % 2], stage, warp_row, warp_column, k16 + 1, lane);
      multiply(sum, fragments[k16 % 2]);
    }
  }
  ptx::cp_async_wait<0>();
  store(p, sum, row0 + warp_row, column0 + warp_column, lane);
}

}  // namespace

void gemm_06_cp_async(const Gemm& p, const GemmContext& context) {
  const dim3 grid((p.n + kTileN - 1) / kTileN, (p.m + kTileM - 1) / kTileM);
  cuda::launch(
      cp_async,
      {.grid = grid, .block = dim3(kThreads), .smem = kStages * sizeof(Stage), .stream = context.stream}, p);
}

}  // namespace llamita::lessons
