// The role of persistent_sm90 that brings weights: four warps that know the order in which the consumers will
// want every row of the step, and go as far ahead as the ring has room, over all borders of products and
// layers.
#pragma once

#include "hw/cuda/device/ptx/bulk_copy.cuh"
#include "hw/cuda/device/ptx/cache.cuh"
#include "ops/decoder_layers/persistent_parts.cuh"

namespace llamita::device::persistent {

// The first pages that this block's attention will read come into L2 while QKV runs. More would only push
// weights out of the queue.
__device__ __forceinline__ void prefetch_keys(const Step& p, const Layer& l, int keys) {
  constexpr int kAhead = 8;  // pages
  const int lane = threadIdx.x % 32;
  const AttentionShare share(p, l.window, keys);
  if (!share.exists(p)) return;
  const auto bytes = static_cast<uint32_t>(kPageTokens * p.head_dim * sizeof(Element));
  const int page = share.begin * 16 / kPageTokens + lane / 2;
  if (lane / 2 >= kAhead || page * kPageTokens >= share.end * 16) return;
  const int64_t place = p.block_table[page], in_page = int64_t{share.kv_head} * kPageTokens * p.head_dim;
  if (lane % 2 == 0)
    ptx::bulk_prefetch(l.k_cache + place * p.k_page_stride + in_page, bytes);
  else
    ptx::bulk_prefetch(l.v_cache + place * p.v_page_stride + in_page, bytes);
}

// Which rows of the ring are free, as each producer warp counts for itself.
class FreeRows {
 public:
  // Waits until stage `at` may begin with `rows` rows.
  __device__ __forceinline__ void take(Storage& s, const RingPlace& at, int rows) {
    while (free_ < rows || at.stage - oldest_.stage == kStages) {
      ptx::mbarrier_wait(&s.empty[oldest_.at()], oldest_.parity());
      free_ += static_cast<int>(heights_ >> (4 * oldest_.at()) & 15) + 1;
      oldest_.advance(0);
    }
    free_ -= rows;
    const int shift = 4 * at.at();
    heights_ = (heights_ & ~(uint64_t{15} << shift)) | static_cast<uint64_t>(rows - 1) << shift;
  }

 private:
  RingPlace oldest_;      // stage that is not known to be free
  uint64_t heights_ = 0;  // of the stages, less one, in four bits each
  int free_ = kRingRows;
  static_assert(kStages == 16 && kTileRows == 16);
};

__device__ __forceinline__ void stream_weights(Storage& s) {
  const Step& p = s.step;
  const int warp = static_cast<int>(threadIdx.x) / 32 - kConsumerWarps, lane = threadIdx.x % 32;
  const uint64_t policy = ptx::policy_evict_first();
  RingPlace at;
  FreeRows free;
  for (int layer = 0; layer < p.layers; ++layer) {
    const Layer& l = s.layer[layer];
    if (warp == 0) prefetch_keys(p, l, s.keys);
    for (int product = 0; product < kProducts; ++product) {
      const Share share(p, l, product);
      for (int tile = 0; tile < share.tiles; ++tile) {
        const int row = warp + kProducerWarps * lane, count = share.height(tile);
        const int mine = (count - warp + kProducerWarps - 1) / kProducerWarps;  // rows of this warp
        const Element* from = share.weight + int64_t{share.first + share.begin(tile) + row} * share.K;
        for (int k = 0; k < share.K; k += kChunk) {
          const auto bytes = static_cast<uint32_t>(min(kChunk, share.K - k) * sizeof(Element));
          free.take(s, at, count);
          uint64_t* full = &s.full[at.at()];
          if (lane == 0) ptx::mbarrier_arrive_expect_tx(full, mine * bytes);
          __syncwarp();
          if (row < count) ptx::bulk_load(s.rows[at.row_at(row)], from + k, bytes, full, policy);
          at.advance(count);
        }
      }
    }
  }
}

}  // namespace llamita::device::persistent
