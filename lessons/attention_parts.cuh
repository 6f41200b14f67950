// What the mma.sync steps of the attention ladder share: tiles in shared memory, scores and weighted values
// of a warp, and the softmax of a tile. A tile of rows x D is D / 64 panels of rows of 128 bytes in the
// 128-byte swizzle.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "hw/cuda/device/ptx/math.cuh"
#include "hw/cuda/device/swizzle.cuh"
#include "hw/cuda/device/tile_store.cuh"
#include "lessons/attention.h"

namespace llamita::lessons {

inline constexpr float kLog2e = 1.4426950408889634f;

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

// s(16 kBlocks, kKeys) = q k^T for the warp's rows row.. of the Q tile of kRows rows. s[m][j] is the fragment
// of rows 16 m.. and keys 8 j...
template <int kBlocks, int kRows, int kKeys, int kDim>
__device__ __forceinline__ void warp_scores(float (&s)[kBlocks][kKeys / 8][4], const uint8_t* q,
                                            const uint8_t* k, int row, int lane) {
#pragma unroll
  for (int m = 0; m < kBlocks; ++m)
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) s[m][j][e] = 0;
#pragma unroll 2
  for (int k16 = 0; k16 < kDim / 16; ++k16) {
    const int panel = k16 / 4;
    uint32_t a[kBlocks][4];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m)
      device::load_a_fragment(a[m], q + panel * kRows * device::kSwizzleRowBytes, row + 16 * m, k16 % 4,
                              lane);
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
      uint32_t b[4];
      device::load_b_fragments(b, k + panel * kKeys * device::kSwizzleRowBytes, 16 * j, k16 % 4, lane);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        ptx::mma_m16n8k16<__nv_bfloat16>(s[m][2 * j], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<__nv_bfloat16>(s[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// o(16 kBlocks, D) += p v, p being the weights in the place of the scores: two neighbouring score fragments
// are one A fragment of 16 keys.
template <int kBlocks, int kKeys, int kDim>
__device__ __forceinline__ void warp_values(float (&o)[kBlocks][kDim / 8][4],
                                            const float (&p)[kBlocks][kKeys / 8][4], const uint8_t* v,
                                            int lane) {
#pragma unroll
  for (int k16 = 0; k16 < kKeys / 16; ++k16) {
    uint32_t a[kBlocks][4];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &p[m][2 * k16 + i / 2][i % 2 * 2];
        a[m][i] = device::pack_bf16(pair[0], pair[1]);
      }
#pragma unroll
    for (int j = 0; j < kDim / 16; ++j) {
      uint32_t b[4];
      const int key = 16 * k16 + (lane & 15), piece = 2 * (j % 4) + (lane >> 4);
      ptx::ldmatrix_x4_trans(
          b, v + j / 4 * kKeys * device::kSwizzleRowBytes + device::swizzled_piece(key, piece));
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        ptx::mma_m16n8k16<__nv_bfloat16>(o[m][2 * j], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<__nv_bfloat16>(o[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
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

// The four lanes that hold one row.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

}  // namespace llamita::lessons
