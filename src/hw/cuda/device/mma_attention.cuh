// A warp's two products of attention by mma.sync, from tiles in shared memory: FlashAttention-1 and -2, in
// the engine and in the lessons. A tile of rows x D is ceil(D / 64) panels of rows of 128 bytes in the
// 128-byte swizzle. Scores and sums are fragments of 16 rows x 8 columns: s[m][j] of rows 16 m.. and columns
// 8 j...
#pragma once

#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/online_softmax.cuh"
#include "hw/cuda/device/tile_store.cuh"

namespace llamita::device {

// s(16 kBlocks, kKeys) = Q K^T for the warp's rows row.. of a Q tile of kRows rows.
template <class Element, int kBlocks, int kRows, int kKeys, int kDim>
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
      load_a_fragment(a[m], q + panel * kRows * kSwizzleRowBytes, row + 16 * m, k16 % 4, lane);
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
      uint32_t b[4];
      load_b_fragments(b, k + panel * kKeys * kSwizzleRowBytes, 16 * j, k16 % 4, lane);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        ptx::mma_m16n8k16<Element>(s[m][2 * j], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(s[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// o(16 kBlocks, D) += p V, p being the weights in the place of the scores: two neighbouring score fragments
// are one A fragment of 16 keys.
template <class Element, int kBlocks, int kKeys, int kDim>
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
        a[m][i] = pack_pair<Element>(pair[0], pair[1]);
      }
#pragma unroll
    for (int j = 0; j < kDim / 16; ++j) {
      uint32_t b[4];
      const int key = 16 * k16 + (lane & 15), piece = 2 * (j % 4) + (lane >> 4);
      ptx::ldmatrix_x4_trans(b, v + j / 4 * kKeys * kSwizzleRowBytes + swizzled_piece(key, piece));
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        ptx::mma_m16n8k16<Element>(o[m][2 * j], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(o[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// FlashAttention-2's step between the two: scores become weights, and what was summed before is corrected.
template <int kBlocks, int kTiles, int kOut>
__device__ __forceinline__ void online_softmax_fragments(float (&s)[kBlocks][kTiles][4],
                                                         float (&o)[kBlocks][kOut][4],
                                                         RowState (&state)[kBlocks], float scale_log2) {
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
    float correction[2];
    online_softmax<0>(reinterpret_cast<float(&)[4 * kTiles]>(s[m]), state[m], correction, scale_log2);
#pragma unroll
    for (int j = 0; j < kOut; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[m][j][e] *= correction[e / 2];
  }
}

// The maximum of a thread's row (half 0 or 1) of a tile of scores, over the row's four lanes, in powers of
// two; the scores become 2^(s - maximum) and `total` gets their sum. A row with no key to see: -inf, 0.
template <int kTiles>
__device__ __forceinline__ float tile_softmax(float (&s)[kTiles][4], int half, float scale_log2,
                                              float& total) {
  float highest = -INFINITY, sum = 0;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) highest = fmaxf(highest, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
  highest = quad_max(highest) * scale_log2;
  const float base = highest == -INFINITY ? 0 : highest;
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e)
      sum += s[j][2 * half + e] = ptx::exp2_approx(s[j][2 * half + e] * scale_log2 - base);
  total = quad_sum(sum);
  return highest;
}

}  // namespace llamita::device
