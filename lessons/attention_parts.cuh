// What the mma.sync steps of the attention ladder share besides hw/cuda/device/mma_attention.cuh: tiles of a
// dense tensor in shared memory, and the mask. A tile of rows x D is D / 64 panels of rows of 128 bytes in
// the 128-byte swizzle.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hw/cuda/device/mma_attention.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "hw/cuda/device/swizzle.cuh"
#include "lessons/attention.h"

namespace llamita::lessons {

// Rows row0.. of one head; rows from `rows` on become zeros. `stride` in elements from row to row. Every
// thread of the block; the caller commits.
template <int kRows, int kDim, int kThreads>
__device__ __forceinline__ void load_tile(uint8_t* tile, const __nv_bfloat16* head, int row0, int rows,
                                          int stride) {
  constexpr int kPieces = kDim / 8;                     // of 16 bytes a row
  constexpr int kStep = kThreads / kPieces;             // rows that the block loads at a time
  static_assert(kStep % 8 == 0 && kRows % kStep == 0);  // so a thread's swizzle is the same in every step
  const int row = threadIdx.x / kPieces, piece = threadIdx.x % kPieces;
  uint8_t* to = tile + piece / 8 * kRows * device::kSwizzleRowBytes + device::swizzled_piece(row, piece % 8);
  const __nv_bfloat16* from = head + size_t(row0 + row) * stride + piece * 8;
#pragma unroll 4
  for (int i = 0; i < kRows / kStep; ++i, from += kStep * stride) {
    const bool valid = row0 + row + i * kStep < rows;
    ptx::cp_async_16(to + i * kStep * device::kSwizzleRowBytes, valid ? from : head, valid);
  }
}

// Scores of keys that the row may not see become -inf. `row`, `key0`: of fragment element 0 of lane 0.
template <int kKeys>
__device__ __forceinline__ void mask_scores(float (&s)[kKeys / 8][4], int row, int key0, int tokens,
                                            bool causal, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int limit = causal ? min(tokens, row + lane / 4 + 8 * half + 1) : tokens;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (key0 + 8 * j + lane % 4 * 2 + e >= limit) s[j][2 * half + e] = -INFINITY;
  }
}

}  // namespace llamita::lessons
