// From wgmma accumulators to a bf16 tile of 64 columns in the 128-byte swizzle, ready for a TMA store
// (sm_90).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hw/cuda/device/ptx/matrix_move.cuh"
#include "hw/cuda/device/swizzle.cuh"

namespace llamita::device {

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// Columns 64 chunk .. + 63 of the accumulators d of one m64nNk16 go to `tile` (64 rows of 128 bytes). All 128
// threads of the warpgroup; `thread` counts inside it. `chunk` must be a constant once loops are unrolled, or
// d leaves the registers. One stmatrix writes 16 rows x 16 columns of a warp.
template <int kCount>
__device__ __forceinline__ void store_chunk_bf16(uint8_t* tile, const float (&d)[kCount], int chunk,
                                                 int thread) {
  const int lane = thread & 31;
  const int row =
      (thread >> 5) * 16 + (lane & 15);  // tiles 0 and 1 of the stmatrix are the two halves of the rows
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    const float* v = d + (chunk * 8 + pair * 2) * 4;
    const int piece = pair * 2 + (lane >> 4);  // tiles 2 and 3 are the next eight columns
    ptx::stmatrix_x4(tile + swizzled_piece(row, piece), pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                     pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
  }
}

}  // namespace llamita::device
