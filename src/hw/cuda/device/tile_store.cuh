// From wgmma accumulators to a tile of 64 columns of bf16 or f16 in the 128-byte swizzle, ready for a TMA
// store (sm_90).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "hw/cuda/device/ptx/matrix_move.cuh"
#include "hw/cuda/device/swizzle.cuh"

namespace llamita::device {

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// Two floats rounded to the 16-bit element, the first in the low half.
template <class Element>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    return pack_bf16(low, high);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
  }
}

// Accumulators d(64, kK) of a warpgroup (or (16, kK) of a warp) as the A fragments of the next product, 16
// columns each.
template <class Element, int kCount>
__device__ __forceinline__ void pack_fragments(uint32_t (&a)[kCount / 8][4], const float (&d)[kCount]) {
#pragma unroll
  for (int k16 = 0; k16 < kCount / 8; ++k16)
#pragma unroll
    for (int i = 0; i < 4; ++i) a[k16][i] = pack_pair<Element>(d[8 * k16 + 2 * i], d[8 * k16 + 2 * i + 1]);
}

// Columns 64 chunk .. + 63 of the accumulators d of one m64nNk16 go to `tile` (64 rows of 128 bytes). All 128
// threads of the warpgroup; `thread` counts inside it. `chunk` must be a constant once loops are unrolled, or
// d leaves the registers. One stmatrix writes 16 rows x 16 columns of a warp.
template <class Element, int kCount>
__device__ __forceinline__ void store_chunk(uint8_t* tile, const float (&d)[kCount], int chunk, int thread) {
  const int lane = thread & 31;
  const int row =
      (thread >> 5) * 16 + (lane & 15);  // tiles 0 and 1 of the stmatrix are the two halves of the rows
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    const float* v = d + (chunk * 8 + pair * 2) * 4;
    const int piece = pair * 2 + (lane >> 4);  // tiles 2 and 3 are the next eight columns
    ptx::stmatrix_x4(tile + swizzled_piece(row, piece), pack_pair<Element>(v[0], v[1]),
                     pack_pair<Element>(v[2], v[3]), pack_pair<Element>(v[4], v[5]),
                     pack_pair<Element>(v[6], v[7]));
  }
}

template <int kCount>
__device__ __forceinline__ void store_chunk_bf16(uint8_t* tile, const float (&d)[kCount], int chunk,
                                                 int thread) {
  store_chunk<__nv_bfloat16>(tile, d, chunk, thread);
}

}  // namespace llamita::device
