// Split K: the blocks that multiplied one tile's parts of K add their sums. Each warp works with the same
// warp of the other blocks and owns every splits-th chunk of its rows: it leaves the others' chunks in the
// stream's exchange (in L2, really) as the registers hold them, takes its own chunk of the others from there,
// and adds. A word that has not arrived is kNothing, so there is no flag to write after the data and none to
// wait for before it, which took 2 us more; no sum is kNothing, a NaN that no arithmetic yields. Whoever took
// a word puts kNothing back for the next kernel. The order is that of the parts, so a result is the same in
// every run; each block writes and reads (splits - 1) / splits of a tile. All blocks of the problem run at
// one time, or they would wait for ever.
#pragma once

#include "hw/cuda/device/ptx/global_exchange.cuh"
#include "ops/linear/gemm_sm90_config.cuh"

namespace llamita::gemm_sm90_detail {

// Which part finishes the chunk; turned by the warp so that a block's warps share the work evenly.
__device__ __forceinline__ int chunk_owner(const Params& p, int chunk, int warp) {
  return (chunk + warp) % p.splits;
}

// Where part `part` of unit `tile` leaves the chunks of warp `warp`.
template <class C>
__device__ __forceinline__ float4* exchange_of(const Params& p, int tile, int part, uint32_t rank, int warp) {
  const int block = (part * p.row_tiles * p.column_tiles + tile) * C::kCluster + static_cast<int>(rank);
  return p.exchange + (size_t(block) * 8 + warp) * (C::kWidth / 8) * 32;
}

__device__ __forceinline__ bool arrived(float4 v) {
  return __float_as_uint(v.x) != ~0u && __float_as_uint(v.y) != ~0u && __float_as_uint(v.z) != ~0u &&
         __float_as_uint(v.w) != ~0u;
}

// One chunk of another part, taken as soon as all of it is there.
template <int kQuads>
__device__ __forceinline__ void take(float4* from, float4 (&v)[kQuads]) {
  bool whole = false;
  while (!whole) {
    whole = true;
#pragma unroll
    for (int i = 0; i < kQuads; ++i) v[i] = ptx::load_relaxed(from + i * 32);
#pragma unroll
    for (int i = 0; i < kQuads; ++i) whole = whole && arrived(v[i]);
  }
  const float nothing = __uint_as_float(~0u);
#pragma unroll
  for (int i = 0; i < kQuads; ++i)
    ptx::store_relaxed(from + i * 32, make_float4(nothing, nothing, nothing, nothing));
}

// Calls visit(chunk, total) for each chunk that this part owns. `warp`: 0 to 7, of the block's consumers.
template <class C, class Visit>
__device__ __forceinline__ void add_parts(const Params& p, const float (&sum)[C::kWidth / 2], int tile,
                                          int part, uint32_t rank, int warp, int lane, Visit visit) {
  constexpr int kQuads = C::kChunk / 8;  // float4 of a thread and chunk
  float4* own = exchange_of<C>(p, tile, part, rank, warp) + lane;
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk) {
    if (chunk_owner(p, chunk, warp) == part) continue;
#pragma unroll
    for (int i = chunk * kQuads; i < (chunk + 1) * kQuads; ++i)
      ptx::store_relaxed(own + i * 32,
                         make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]));
  }
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk) {
    if (chunk_owner(p, chunk, warp) != part) continue;
    float total[C::kChunk / 2] = {};
#pragma unroll 1
    for (int from = 0; from < p.splits; ++from) {
      if (from == part) {
#pragma unroll
        for (int i = 0; i < C::kChunk / 2; ++i) total[i] += sum[chunk * (C::kChunk / 2) + i];
        continue;
      }
      float4 v[kQuads];
      take<kQuads>(exchange_of<C>(p, tile, from, rank, warp) + lane + chunk * kQuads * 32, v);
#pragma unroll
      for (int i = 0; i < kQuads; ++i)
        total[4 * i] += v[i].x, total[4 * i + 1] += v[i].y, total[4 * i + 2] += v[i].z,
            total[4 * i + 3] += v[i].w;
    }
    visit(chunk, total);
  }
}

}  // namespace llamita::gemm_sm90_detail
