// Step 3: a block computes a 32x32 tile of C and shares its operands through shared memory.
//
// Each element fetched from memory now serves 32 threads: traffic from L2 falls 32-fold. Shared memory: two
// tiles of 32 x 33 floats; the odd row length puts a column into 32 different banks. Bound by: shared memory,
// two loads for each fused multiply-add.
#include "hw/cuda/launch.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

constexpr int kTile = 32;

__global__ void __launch_bounds__(kTile* kTile) shared_tiles(Gemm p) {
  __shared__ float a[kTile][kTile + 1];
  __shared__ float b[kTile][kTile + 1];
  const int x = threadIdx.x, y = threadIdx.y;
  const int row = blockIdx.y * kTile + y;
  const int column = blockIdx.x * kTile + x;
  const int b_row = blockIdx.x * kTile + y;
  float sum = 0.0f;
  for (int k0 = 0; k0 < p.k; k0 += kTile) {
    const int k = k0 + x;
    a[y][x] = row < p.m && k < p.k ? __bfloat162float(p.a[size_t(row) * p.k + k]) : 0.0f;
    b[y][x] = b_row < p.n && k < p.k ? __bfloat162float(p.b[size_t(b_row) * p.k + k]) : 0.0f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kTile; ++i) sum = fmaf(a[y][i], b[x][i], sum);
    __syncthreads();
  }
  if (row < p.m && column < p.n) p.c[size_t(row) * p.n + column] = __float2bfloat16(sum);
}

}  // namespace

void gemm_03_shared_tiles(const Gemm& p, const GemmContext& context) {
  const dim3 grid((p.n + kTile - 1) / kTile, (p.m + kTile - 1) / kTile);
  cuda::launch(shared_tiles, {.grid = grid, .block = dim3(kTile, kTile), .stream = context.stream}, p);
}

}  // namespace llamita::lessons
