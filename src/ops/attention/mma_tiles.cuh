// What FlashAttention-1 and -2 share over a paged cache: rows of a head to shared memory, the mask of a page
// of scores, and the store of two neighbouring results.
#pragma once

#include "hw/cuda/device/mma_attention.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "ops/attention/cuda_params.cuh"

namespace llamita::device {

// kRows rows of a head, `stride` elements apart, to panels in shared memory. Rows from `rows` on become zero.
template <int kThreads, int kRows, int kDim, class Element>
__device__ __forceinline__ void load_rows(uint8_t* to, const Element* from, int64_t stride, int rows) {
  constexpr int kPieces = kDim / 8;  // of 16 bytes a row
#pragma unroll 4
  for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    const bool inside = row < rows;
    ptx::cp_async_16(to + piece / 8 * kRows * kSwizzleRowBytes + swizzled_piece(row, piece % 8),
                     inside ? from + row * stride + piece * 8 : from, inside);
  }
}

// The same for queries of another type than the cache's.
template <int kThreads, int kRows, int kDim, class Element>
__device__ __forceinline__ void convert_rows(uint8_t* to, const AttentionParams& p, int64_t first, int rows) {
  for (int i = threadIdx.x; i < kRows * kDim / 2; i += kThreads) {
    const int row = i / (kDim / 2), d = i % (kDim / 2) * 2;
    float low = 0, high = 0;
    if (row < rows) {
      low = load_float(p.q, p.q_dtype, first + row * p.q_stride + d);
      high = load_float(p.q, p.q_dtype, first + row * p.q_stride + d + 1);
    }
    uint8_t* panel = to + d / 64 * kRows * kSwizzleRowBytes;
    *reinterpret_cast<uint32_t*>(panel + swizzled_byte(row, d % 64 * 2)) = pack2<Element>(low, high);
  }
}

// Scores of keys that a row does not see become -inf. `position`: of fragment element 0 of lane 0.
__device__ __forceinline__ void mask_paged(float (&s)[kPageTokens / 8][4], const AttentionParams& p,
                                           int position, int keys, int key0, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = position + lane / 4 + 8 * half, first = p.first_key(row), end = p.end_key(row, keys);
#pragma unroll
    for (int j = 0; j < kPageTokens / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = key0 + 8 * j + lane % 4 * 2 + e;
        if (key >= end || key < first) s[j][2 * half + e] = -INFINITY;
      }
  }
}

// A pair of neighbouring elements.
__device__ __forceinline__ void store_pair(void* out, DType dtype, int64_t at, float low, float high) {
  if (dtype == DType::bf16) {
    *reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(out) + at) = pack2<__nv_bfloat16>(low, high);
  } else if (dtype == DType::f16) {
    *reinterpret_cast<uint32_t*>(static_cast<__half*>(out) + at) = pack2<__half>(low, high);
  } else {
    *reinterpret_cast<float2*>(static_cast<float*>(out) + at) = {low, high};
  }
}

}  // namespace llamita::device
