// The role of persistent_sm90 that brings weights: four warps that know the order in which the consumers will
// want every row of the step, and go as far ahead as the ring has room, over all borders of products and
// layers.
#pragma once

#include "hw/cuda/device/ptx/bulk_copy.cuh"
#include "hw/cuda/device/ptx/cache.cuh"
#include "ops/decoder_layers/persistent_parts.cuh"

namespace llamita::device::persistent {

// The first pages that this block's units will read come into L2 while the products before attention run;
// there are microseconds for it, so more would only push weights out of the queue.
__device__ __forceinline__ void prefetch_keys(const Params& p, int layer) {
  constexpr int kMostPages = 8;
  const Layer& l = p.layer[layer];
  const int lane = threadIdx.x % 32;
  const auto bytes = static_cast<uint32_t>(kPageTokens * p.head_dim * sizeof(Element));
  for (int unit = blockIdx.x; unit < AttentionUnit::count(p); unit += gridDim.x) {
    const AttentionUnit u(p, l.window, unit);
    const int page = u.begin * 16 / kPageTokens + lane / 2;
    if (lane / 2 >= kMostPages || page * kPageTokens >= u.end * 16) continue;
    if (lane % 2 == 0)
      ptx::bulk_prefetch(l.k_cache + u.row(p, p.k_page_stride, page * kPageTokens), bytes);
    else
      ptx::bulk_prefetch(l.v_cache + u.row(p, p.v_page_stride, page * kPageTokens), bytes);
  }
}

__device__ __forceinline__ void stream_weights(const Params& p, Storage& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32 - kConsumerWarps, lane = threadIdx.x % 32;
  const uint64_t policy = ptx::policy_evict_first();
  RingCursor<kStages> at;
  for (int layer = 0; layer < p.layers; ++layer) {
    if (warp == 0) prefetch_keys(p, layer);
    for (int product = 0; product < kProducts; ++product) {
      const Share share(p, layer, product);
      for (int k = 0; k < share.K; k += kChunk) {
        const auto bytes = static_cast<uint32_t>(min(kChunk, share.K - k) * sizeof(Element));
        for (int tile = 0; tile < share.tiles; ++tile, at.advance()) {
          const int begin = share.begin(tile), row = warp + kProducerWarps * lane;
          const int count = share.begin(tile + 1) - begin;
          const int mine = (count - warp + kProducerWarps - 1) / kProducerWarps;  // rows of this warp
          ptx::mbarrier_wait(&s.ring.empty[at.stage()], at.empty_parity());
          if (lane == 0) ptx::mbarrier_arrive_expect_tx(&s.ring.full[at.stage()], mine * bytes);
          __syncwarp();
          if (row < count)
            ptx::bulk_load(s.stage[at.stage()] + row * kRowBytes,
                           share.weight + int64_t{share.first + begin + row} * share.K + k, bytes,
                           &s.ring.full[at.stage()], policy);
        }
      }
    }
  }
}

}  // namespace llamita::device::persistent
