// Split K: the blocks of a cluster that multiplied one tile's parts of K add their sums, through each other's
// shared memory. Each warp works with the same warp of the other blocks and finishes every parts-th chunk of
// its rows: all sums are left in the place of the ring as the registers hold them, then it reads its own
// chunks of the others, whose order is that of the parts, so a result is the same in every run. (Through L2
// an exchange took 2 to 5 us, more the more was exchanged: sums went out to memory.)
#pragma once

#include "hw/cuda/device/ptx/smem.cuh"
#include "ops/linear/gemm_sm90_config.cuh"

namespace llamita::gemm_sm90_detail {

// Calls visit(chunk, total) for each chunk that this part finishes. `warp`: 0 to 7, of the block's consumers.
// All threads of the cluster that do not come here meet its barrier once.
template <class C, class Visit>
__device__ __forceinline__ void add_parts(const Params& p, Storage<C>& s, const Place& place,
                                          const float (&sum)[C::kWidth / 2], int warp, int lane,
                                          Visit visit) {
  constexpr int kQuads = C::kChunk / 8;  // float4 of a thread and chunk
  const int parts = p.cluster.parts, thread = warp * 32 + lane;
  // Which part finishes a chunk: turned by the warp so that a block's warps share the work evenly.
  const auto owner = [&](int chunk) { return (chunk + warp) % parts; };
  ptx::named_barrier_sync(1, 128 * C::kConsumers);  // no warp multiplies from the ring any more
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk) {
    if (owner(chunk) == place.part) continue;
#pragma unroll
    for (int i = chunk * kQuads; i < (chunk + 1) * kQuads; ++i)
      s.sums[i][thread] = make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]);
  }
  ptx::cluster_sync();
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk) {
    if (owner(chunk) != place.part) continue;
    float total[C::kChunk / 2] = {};
#pragma unroll 1
    for (int from = 0; from < parts; ++from) {
      if (from == place.part) {
#pragma unroll
        for (int i = 0; i < C::kChunk / 2; ++i) total[i] += sum[chunk * (C::kChunk / 2) + i];
        continue;
      }
      const uint32_t there = ptx::cluster_address(ptx::smem_address(&s.sums[chunk * kQuads][thread]),
                                                  from * p.cluster.rows + place.row);
      float4 v[kQuads];
#pragma unroll
      for (int i = 0; i < kQuads; ++i)
        v[i] = ptx::load_cluster_float4(there + i * static_cast<uint32_t>(sizeof s.sums[0]));
#pragma unroll
      for (int i = 0; i < kQuads; ++i)
        total[4 * i] += v[i].x, total[4 * i + 1] += v[i].y, total[4 * i + 2] += v[i].z,
            total[4 * i + 3] += v[i].w;
    }
    visit(chunk, total);
  }
}

}  // namespace llamita::gemm_sm90_detail
