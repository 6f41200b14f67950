// Step 1: one thread an output, as the formula reads.
//
// Thread x walks down the rows of C. Lanes of a warp read A K elements apart, two bytes out of every 32-byte
// sector the memory sends, and write C N elements apart. Bound by: transactions of the load units, at a
// fraction of a percent of the matrix roof.
#include "hw/cuda/launch.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

__global__ void naive(Gemm p) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  const int column = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= p.m || column >= p.n) return;
  float sum = 0.0f;
  for (int k = 0; k < p.k; ++k)
    sum += __bfloat162float(p.a[size_t(row) * p.k + k]) * __bfloat162float(p.b[size_t(column) * p.k + k]);
  p.c[size_t(row) * p.n + column] = __float2bfloat16(sum);
}

}  // namespace

void gemm_01_naive(const Gemm& p, const GemmContext& context) {
  const dim3 grid((p.m + 31) / 32, (p.n + 7) / 8);
  cuda::launch(naive, {.grid = grid, .block = dim3(32, 8), .stream = context.stream}, p);
}

}  // namespace llamita::lessons
