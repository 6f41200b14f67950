// The shape of a block of paged_decode_sm90, and the way of its results: from the warps' registers through
// shared memory to the output, or to scratch and from there, with the other blocks' parts, to the output.
#pragma once

#include "hw/cuda/device/online_softmax.cuh"
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/cluster_store.cuh"
#include "hw/cuda/device/swizzle.cuh"
#include "ops/attention/decode_share.cuh"

namespace llamita::device {

inline constexpr int kDecodeWarps = 4;  // that multiply
inline constexpr int kDecodeThreads = 32 * (kDecodeWarps + 1);
inline constexpr int kWarpKeys = kPageTokens / kDecodeWarps;  // of a page, a warp's
inline constexpr int kDecodeGroup = 1;                        // named barrier of the warps that multiply

template <class ElementType, int kDimension>
struct DecodeConfig {
  using Element = ElementType;
  static constexpr int kDim = kDimension;
  static constexpr int kPanels = (kDim + 63) / 64;
  static constexpr int kStages = kDim == 64 ? 4 : 2;
  static constexpr int kPanelBytes = kPageTokens * kSwizzleRowBytes;
  static constexpr int kPageBytes = kPanels * kPanelBytes;
  static constexpr int kBlocksPerSm = kDim == 256 ? 1 : 2;
  static constexpr int kOutStride = kDim + 8;  // floats: fragments' pairs of four rows lie in different banks
};

template <class C>
struct DecodeStorage {
  uint8_t k[C::kStages][C::kPageBytes];
  uint8_t v[C::kStages][C::kPageBytes];
  uint8_t q[C::kPanels][kDecodeRows * kSwizzleRowBytes];
  float out[kDecodeWarps][kDecodeRows][C::kOutStride];
  float highest[kDecodeWarps][kDecodeRows];
  float total[kDecodeWarps][kDecodeRows];
  Ring<C::kStages> k_ring;
  Ring<C::kStages> v_ring;
  bool last;
};

// Of a block whose cluster shares a segment: what the others send it. Item i of the rows' sums (four columns
// of a row) goes to block i % parts.
template <class C>
struct ClusterStorage : DecodeStorage<C> {
  float4
      part[ClusterShare::kMostRows * C::kDim / 4 + ClusterShare::kMostBlocks];  // (items of the block, parts)
  float2 state[ClusterShare::kMostBlocks][ClusterShare::kMostRows];  // maximum in powers of two, sum
  uint64_t arrived;
};

// Packed row -> where it lies in q or out.
__device__ __forceinline__ int64_t row_offset(const AttentionParams& p, const DecodePiece& piece, int row,
                                              int64_t stride) {
  const int packed = piece.entry.first_row + row, token = packed / p.group;
  return (piece.entry.first_token + token) * stride +
         (int64_t{piece.kv_head} * p.group + packed - token * p.group) * p.head_dim;
}

template <class C>
__device__ __forceinline__ void leave_state(DecodeStorage<C>& s, int rows, const RowState& state,
                                            const float (&out)[C::kDim / 8][4], float scale_log2) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
    const float total = quad_sum(state.total[half]);
    if (row >= rows) continue;
    if (lane % 4 == 0) {
      s.highest[warp][row] = state.highest[half] * scale_log2;
      s.total[warp][row] = total;
    }
#pragma unroll
    for (int j = 0; j < C::kDim / 8; ++j)
      *reinterpret_cast<float2*>(&s.out[warp][row][8 * j + lane % 4 * 2]) = {out[j][2 * half],
                                                                             out[j][2 * half + 1]};
  }
}

__device__ __forceinline__ void store_four(const AttentionParams& p, int64_t at, float4 x) {
  if (p.out_dtype == DType::f32)
    *reinterpret_cast<float4*>(static_cast<float*>(p.out) + at) = x;
  else if (p.out_dtype == DType::bf16)
    *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(p.out) + at) = {pack2<__nv_bfloat16>(x.x, x.y),
                                                                          pack2<__nv_bfloat16>(x.z, x.w)};
  else
    *reinterpret_cast<uint2*>(static_cast<__half*>(p.out) + at) = {pack2<__half>(x.x, x.y),
                                                                   pack2<__half>(x.z, x.w)};
}

__device__ __forceinline__ void add(float4& sum, float weight, float4 x) {
  sum.x += weight * x.x;
  sum.y += weight * x.y;
  sum.z += weight * x.z;
  sum.w += weight * x.w;
}

// Where block `block` leaves its part of a segment: the first one of a segment in its second place, since
// another segment may have ended in the block before.
__device__ __forceinline__ int part_slot(int block, int first_block) {
  return 2 * block + (block == first_block ? 1 : 0);
}

// The warps' results, in ascending order: `take` gets row, column, maximum, sum of weights and the sums of
// four columns.
template <class C, class Take>
__device__ __forceinline__ void merge_warps(const DecodeStorage<C>& s, int rows, const Take& take) {
  constexpr int kFours = C::kDim / 4;
  for (int i = threadIdx.x; i < rows * kFours; i += 32 * kDecodeWarps) {
    const int row = i / kFours, column = i % kFours * 4;
    float highest = -INFINITY, total = 0;
#pragma unroll
    for (int warp = 0; warp < kDecodeWarps; ++warp) highest = fmaxf(highest, s.highest[warp][row]);
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      const float weight = weight_of(s.highest[warp][row], highest);
      total += weight * s.total[warp][row];
      add(sum, weight, *reinterpret_cast<const float4*>(&s.out[warp][row][column]));
    }
    take(row, column, highest, total, sum);
  }
}

__device__ __forceinline__ void store_mean(const DecodeParams& d, const DecodePiece& piece, int row,
                                           int column, float total, float4 sum) {
  float4 mean = {0, 0, 0, 0};
  add(mean, 1 / total, sum);
  store_four(d.attention, row_offset(d.attention, piece, row, d.attention.out_stride) + column, mean);
}

// The warps' results to out or, of a segment with other parts, to scratch.
template <class C>
__device__ __forceinline__ void leave_part(const DecodeStorage<C>& s, const DecodeParams& d,
                                           const DecodePiece& piece) {
  const int slot = part_slot(blockIdx.x, piece.first_block);
  merge_warps(s, piece.entry.rows, [&](int row, int column, float highest, float total, float4 sum) {
    if (piece.parts == 1) return store_mean(d, piece, row, column, total, sum);
    const int64_t at = int64_t{slot} * kDecodeRows + row;
    *reinterpret_cast<float4*>(d.partial_out + at * C::kDim + column) = sum;
    if (column == 0) d.partial_state[at] = {highest, total};
  });
}

// The warps' results to the blocks of the cluster, and from all their parts, in ascending order, this block's
// items to out. Every block of the cluster runs.
template <class C>
__device__ __forceinline__ void exchange_parts(ClusterStorage<C>& s, const DecodeParams& d,
                                               const DecodePiece& piece) {
  constexpr int kFours = C::kDim / 4;
  const int parts = piece.parts, rank = static_cast<int>(blockIdx.x) - piece.first_block;
  const int items = piece.entry.rows * kFours, own = (items - rank + parts - 1) / parts;
  if (threadIdx.x == 0)
    ptx::mbarrier_arrive_expect_tx(
        &s.arrived,
        static_cast<uint32_t>(parts * (own * sizeof(float4) + piece.entry.rows * sizeof(float2))));
  merge_warps(s, piece.entry.rows, [&](int row, int column, float highest, float total, float4 sum) {
    const int item = row * kFours + column / 4;
    ptx::store_async_float4(&s.part[item / parts * parts + rank], sum, &s.arrived,
                            static_cast<uint32_t>(item % parts));
    if (column / 4 < parts)
      ptx::store_async_float2(&s.state[rank][row], {highest, total}, &s.arrived,
                              static_cast<uint32_t>(column / 4));
  });
  ptx::mbarrier_wait(&s.arrived, 0);
  for (int i = threadIdx.x; i < own; i += 32 * kDecodeWarps) {
    const int item = i * parts + rank, row = item / kFours, column = item % kFours * 4;
    float highest = -INFINITY, total = 0;
    for (int part = 0; part < parts; ++part) highest = fmaxf(highest, s.state[part][row].x);
    float4 sum = {0, 0, 0, 0};
    for (int part = 0; part < parts; ++part) {
      const float2 state = s.state[part][row];
      const float weight = weight_of(state.x, highest);
      total += weight * state.y;
      add(sum, weight, s.part[i * parts + part]);
    }
    store_mean(d, piece, row, column, total, sum);
  }
}

// By the last block of a segment: all parts in ascending order. The loads of kAhead parts are under way at
// once, which is most of them where time is short.
template <class C>
__device__ __forceinline__ void merge_parts(const DecodeParams& d, const DecodePiece& piece) {
  constexpr int kFours = C::kDim / 4, kAhead = 16;
  for (int i = threadIdx.x; i < piece.entry.rows * kFours; i += 32 * kDecodeWarps) {
    const int row = i / kFours, column = i % kFours * 4;
    float highest = -INFINITY, total = 0;
    float4 sum = {0, 0, 0, 0};
    for (int base = 0; base < piece.parts; base += kAhead) {
      float2 state[kAhead];
      float4 part[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int at = min(base + j, piece.parts - 1);
        const int64_t slot =
            int64_t{part_slot(piece.first_block + at, piece.first_block)} * kDecodeRows + row;
        state[j] = __ldcg(&d.partial_state[slot]);
        part[j] = __ldcg(reinterpret_cast<const float4*>(d.partial_out + slot * C::kDim + column));
      }
      float now = highest;
#pragma unroll
      for (int j = 0; j < kAhead; ++j) now = fmaxf(now, state[j].x);
      const float correction = weight_of(highest, now);
      highest = now;
      total *= correction;
      sum = {sum.x * correction, sum.y * correction, sum.z * correction, sum.w * correction};
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const float weight = base + j < piece.parts ? weight_of(state[j].x, highest) : 0;
        total += weight * state[j].y;
        add(sum, weight, part[j]);
      }
    }
    store_mean(d, piece, row, column, total, sum);
  }
}

}  // namespace llamita::device
