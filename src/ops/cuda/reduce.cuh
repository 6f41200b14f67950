// Sums and maxima over a warp or a block, in an order that depends on the block's shape alone.
#pragma once

#include <cstdint>

namespace llamita::device {

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}

// The sum over all threads of a block of kWarps warps, in every thread. All threads call it.
template <int kWarps>
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float parts[kWarps];
  x = warp_sum(x);
  __syncthreads();  // the parts of an earlier sum have been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += parts[w];
  return sum;
}

}  // namespace llamita::device
