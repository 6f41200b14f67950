// Step 4: a thread computes 8x8 outputs in registers, a block of 256 threads a 128x128 tile.
//
// Sixteen values read from shared memory serve 64 fused multiply-adds, so the arithmetic units and no longer
// the loads set the pace. The tiles lie K-major in shared memory (16 x 128 floats each), so a thread's values
// are two 16-byte loads; its rows are 4 + 4 apart by 64, which keeps the lanes' addresses in different banks.
// Bound by: the fp32 units, 67 TFLOP/s on an H100: as far as one gets without tensor cores.
#include "hw/cuda/launch.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

constexpr int kTile = 128;
constexpr int kDepth = 16;
constexpr int kThreads = 256;

// Thread t brings 8 elements of row t / 2 into the K-major tile; zero outside the matrix.
__device__ __forceinline__ void load_tile(float (&tile)[kDepth][kTile + 4], const __nv_bfloat16* matrix,
                                          int first_row, int rows, int k0, int k) {
  const int row = threadIdx.x / 2, depth = threadIdx.x % 2 * 8;
  uint4 bits = make_uint4(0, 0, 0, 0);
  if (first_row + row < rows && k0 + depth < k)
    bits = *reinterpret_cast<const uint4*>(matrix + size_t(first_row + row) * k + k0 + depth);
  const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    tile[depth + 2 * i][row] = __uint_as_float(pairs[i] << 16);
    tile[depth + 2 * i + 1][row] = __uint_as_float(pairs[i] & 0xFFFF0000u);
  }
}

// Eight values of one depth: four at 4 `lane` and four 64 further.
__device__ __forceinline__ void load_values(float (&v)[8], const float* depth, int lane) {
  const float4 low = *reinterpret_cast<const float4*>(depth + lane * 4);
  const float4 high = *reinterpret_cast<const float4*>(depth + 64 + lane * 4);
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

__global__ void __launch_bounds__(kThreads) register_tiles(Gemm p) {
  __shared__ __align__(16) float a[kDepth][kTile + 4];
  __shared__ __align__(16) float b[kDepth][kTile + 4];
  const int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
  float sum[8][8] = {};
  for (int k0 = 0; k0 < p.k; k0 += kDepth) {
    load_tile(a, p.a, row0, p.m, k0, p.k);
    load_tile(b, p.b, column0, p.n, k0, p.k);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float left[8], right[8];
      load_values(left, a[d], y);
      load_values(right, b[d], x);
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = row0 + y * 4 + (i & 3) + (i >> 2) * 64;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int column = column0 + x * 4 + (j & 3) + (j >> 2) * 64;
      if (row < p.m && column < p.n) p.c[size_t(row) * p.n + column] = __float2bfloat16(sum[i][j]);
    }
  }
}

}  // namespace

void gemm_04_register_tiles(const Gemm& p, const GemmContext& context) {
  const dim3 grid((p.n + kTile - 1) / kTile, (p.m + kTile - 1) / kTile);
  cuda::launch(register_tiles, {.grid = grid, .block = dim3(kThreads), .stream = context.stream}, p);
}

}  // namespace llamita::lessons
