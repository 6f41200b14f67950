// Step 2: the same thread an output, but lanes walk along a row of C and every load is 16 bytes.
//
// The warp's stores are contiguous; its loads of A are one broadcast; of each sector of B all 32 bytes are
// used, in two neighbouring steps. Eight products for each pair of loads instead of one. Bound by: L1
// bandwidth, because every product still fetches its operands anew.
#include "hw/cuda/launch.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

namespace {

__device__ __forceinline__ float dot8(uint4 a, uint4 b, float sum) {
  const uint32_t x[4] = {a.x, a.y, a.z, a.w};
  const uint32_t y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // a bf16 is the upper half of a float
    sum = fmaf(__uint_as_float(x[i] << 16), __uint_as_float(y[i] << 16), sum);
    sum = fmaf(__uint_as_float(x[i] & 0xFFFF0000u), __uint_as_float(y[i] & 0xFFFF0000u), sum);
  }
  return sum;
}

__global__ void coalesced(Gemm p) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= p.m || column >= p.n) return;
  const auto* a = reinterpret_cast<const uint4*>(p.a + size_t(row) * p.k);
  const auto* b = reinterpret_cast<const uint4*>(p.b + size_t(column) * p.k);
  float sum = 0.0f;
  for (int k = 0; k < p.k / 8; ++k) sum = dot8(a[k], b[k], sum);
  p.c[size_t(row) * p.n + column] = __float2bfloat16(sum);
}

}  // namespace

void gemm_02_coalesced(const Gemm& p, const GemmContext& context) {
  const dim3 grid((p.n + 31) / 32, (p.m + 7) / 8);
  cuda::launch(coalesced, {.grid = grid, .block = dim3(32, 8), .stream = context.stream}, p);
}

}  // namespace llamita::lessons
