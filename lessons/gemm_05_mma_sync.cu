// Step 5: tensor cores. A warp multiplies 16x16 by 16x8 in one instruction, mma.sync m16n8k16.
//
// Block 128x128x32, eight warps in 2 x 4, each 64x32 of C as 4 x 4 fragments. Operands stay bf16 all the way;
// rows in shared memory are padded from 64 to 80 bytes, so the eight rows a fragment load touches start in
// different banks. One buffer: load, barrier, multiply, barrier. Bound by: waiting; memory and tensor cores
// take turns.
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "hw/cuda/launch.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

constexpr int kTile = 128;
constexpr int kDepth = 32;
constexpr int kPitch = kDepth + 8;
constexpr int kThreads = 256;

using Tile = __nv_bfloat16[kTile][kPitch];

// 128 rows of four 16-byte pieces by 256 threads; zero outside the matrix.
__device__ __forceinline__ void load_tile(Tile& tile, const __nv_bfloat16* matrix, int first_row, int rows,
                                          int k0, int k) {
  const int piece = threadIdx.x % 4 * 8;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = threadIdx.x / 4 + i * 64;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (first_row + row < rows && k0 + piece < k)
      bits = *reinterpret_cast<const uint4*>(matrix + size_t(first_row + row) * k + k0 + piece);
    *reinterpret_cast<uint4*>(&tile[row][piece]) = bits;
  }
}

__device__ __forceinline__ uint32_t pair_at(const Tile& tile, int row, int depth) {
  return *reinterpret_cast<const uint32_t*>(&tile[row][depth]);
}

__global__ void __launch_bounds__(kThreads) mma_sync(Gemm p) {
  __shared__ __align__(16) Tile a;
  __shared__ __align__(16) Tile b;
  const int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int group = lane / 4, pair = lane % 4 * 2;  // the fragment's row and first column of this lane
  const int warp_row = warp / 4 * 64, warp_column = warp % 4 * 32;
  float sum[4][4][4] = {};
  for (int k0 = 0; k0 < p.k; k0 += kDepth) {
    load_tile(a, p.a, row0, p.m, k0, p.k);
    load_tile(b, p.b, column0, p.n, k0, p.k);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; d += 16) {
      uint32_t left[4][4], right[4][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = warp_row + i * 16 + group;
        left[i][0] = pair_at(a, row, d + pair);
        left[i][1] = pair_at(a, row + 8, d + pair);
        left[i][2] = pair_at(a, row, d + pair + 8);
        left[i][3] = pair_at(a, row + 8, d + pair + 8);
        right[i][0] = pair_at(b, warp_column + i * 8 + group, d + pair);
        right[i][1] = pair_at(b, warp_column + i * 8 + group, d + pair + 8);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          ptx::mma_m16n8k16<__nv_bfloat16>(sum[i][j], left[i], right[j][0], right[j][1]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + warp_row + i * 16 + group + half * 8;
        const int column = column0 + warp_column + j * 8 + pair;
        if (row < p.m && column < p.n)
          *reinterpret_cast<__nv_bfloat162*>(p.c + size_t(row) * p.n + column) =
              __floats2bfloat162_rn(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
      }
}

}  // namespace

void gemm_05_mma_sync(const Gemm& p, const GemmContext& context) {
  const dim3 grid((p.n + kTile - 1) / kTile, (p.m + kTile - 1) / kTile);
  cuda::launch(mma_sync, {.grid = grid, .block = dim3(kThreads), .stream = context.stream}, p);
}

}  // namespace llamita::lessons
