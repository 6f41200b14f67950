// Online softmax (Milakov and Gimelshein, arXiv 1805.02867) over tiles of scores in the accumulator layout of
// mma.sync and wgmma: element 4 j + 2 half + e of a thread is row lane / 4 + 8 half and column
// 8 j + 2 (lane % 4) + e of its warp's 16 rows, so the four lanes of a quad share two rows. Exponents are of
// two: scores are multiplied with scale * kLog2e.
#pragma once

#include <cmath>
#include <cstdint>

#include "hw/cuda/device/ptx/math.cuh"

namespace llamita::device {

inline constexpr float kLog2e = 1.4426950408889634f;

// Over the four lanes that hold one row.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// What sums relative to the maximum `highest` weigh beside sums relative to `common`, both in powers of two;
// 0 for sums over no key at all.
__device__ __forceinline__ float weight_of(float highest, float common) {
  return common == -INFINITY ? 0.0f : ptx::exp2_approx(highest - common);
}

// Of the two rows of a thread.
struct RowState {
  float highest[2] = {-INFINITY, -INFINITY};  // raw scores
  float total[2] = {0, 0};                    // the thread's own part
};

// Bit 2 j + e: whether column 8 j + e lies below `end`.
__device__ __forceinline__ uint32_t columns_below(int end) {
  const int at = max(end, 0), count = at / 8 * 2 + min(at % 8, 2);
  return count < 32 ? (1u << count) - 1 : ~0u;
}

// Keys begin .. end - 1 of the tile stay, the others' scores become -inf. Counted from the thread's first
// column; one pair a row. By bits, which become predicates seven at a time: two comparisons a score are twice
// the instructions.
template <int kCount>
__device__ __forceinline__ void mask_scores(float (&s)[kCount], const int (&begin)[2], const int (&end)[2]) {
  static_assert(kCount <= 64, "a bit a score of a row");
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t keep = columns_below(end[half]) & ~columns_below(begin[half]);
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if ((keep & (1u << (2 * j + e))) == 0) s[4 * j + 2 * half + e] = -INFINITY;
  }
}

// Scores to weights; returns in `correction` what earlier sums of the rows must be multiplied with. The
// maximum follows the scores only when they outgrow it by kSlack powers of two: until then weights are up to
// 2^kSlack, which fp32 sums and bf16 or f16 weights hold with the same relative error, and nothing needs to
// be corrected.
template <int kSlack, int kCount>
__device__ __forceinline__ void online_softmax(float (&s)[kCount], RowState& state, float (&correction)[2],
                                               float scale_log2) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float highest = s[2 * half];
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j)
      highest = fmaxf(highest, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
    highest = fmaxf(state.highest[half], quad_max(highest));
    if (kSlack > 0 && (highest - state.highest[half]) * scale_log2 <= kSlack) highest = state.highest[half];
    const float base = highest == -INFINITY ? 0 : highest * scale_log2;  // no key seen yet
    correction[half] = ptx::exp2_approx(state.highest[half] * scale_log2 - base);
    state.highest[half] = highest;
    float total = state.total[half] * correction[half];
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        total += s[4 * j + 2 * half + e] = ptx::exp2_approx(s[4 * j + 2 * half + e] * scale_log2 - base);
    state.total[half] = total;
  }
}

}  // namespace llamita::device
