// What the Hopper steps of the ladder share besides the device headers: the plain epilogue.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/device/swizzle.cuh"
#include "hw/cuda/device/tile_store.cuh"

namespace llamita::lessons {

using device::shared_storage;
using device::smem_bytes;

// Accumulators of one m64nNk16 straight to C(M, N): four lanes write 16 contiguous bytes of a row. Simple,
// and a quarter of the store units' width.
template <int kCount>
__device__ __forceinline__ void store_direct(__nv_bfloat16* c, const float (&d)[kCount], int row0,
                                             int column0, int m, int n, int thread) {
  const int row = row0 + thread / 32 * 16 + thread % 32 / 4;
  const int column = column0 + thread % 4 * 2;
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (row + half * 8 < m && column + j * 8 < n)
        *reinterpret_cast<uint32_t*>(c + size_t(row + half * 8) * n + column + j * 8) =
            device::pack_bf16(d[4 * j + 2 * half], d[4 * j + 2 * half + 1]);
}

}  // namespace llamita::lessons
