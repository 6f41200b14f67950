// The roles of persistent_sm90 that bring weights: warps that know the order in which the consumers will want
// every row of the step. Two go as far ahead as the ring has room, over all borders of products and layers;
// one goes further, in L2.
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

// Calls begin(layer), and load(from, K, rows, bytes) for each stage: `bytes` of each of `rows` rows of K
// elements, the first of which lies at `from`.
template <class Begin, class Load>
__device__ __forceinline__ void walk_stages(const Storage& s, Begin begin, Load load) {
  const Step& p = s.step;
  for (int layer = 0; layer < p.layers; ++layer) {
    begin(s.layer[layer]);
    for (int product = 0; product < kProducts; ++product) {
      const Share share(p, s.layer[layer], product);
      for (int tile = 0; tile < share.tiles; ++tile) {
        const Element* row = share.weight + int64_t{share.first + share.begin(tile)} * share.K;
        for (int k = 0; k < share.K; k += kChunk)
          load(row + k, share.K, share.height(tile),
               static_cast<uint32_t>(min(kChunk, share.K - k) * sizeof(Element)));
      }
    }
  }
}

// Into the ring. Two stages of a block are under way at a time and no more: what all blocks ask for beyond
// that only waits in front of the memory, and letters, and the rows of blocks that are behind, wait with it.
__device__ __forceinline__ void load_weights(Storage& s, int warp) {
  constexpr uint32_t kUnderWay = 2;
  const int lane = threadIdx.x % 32, row = warp + kLoaderWarps * lane;
  const uint64_t policy = ptx::policy_evict_first();
  RingPlace at, under_way;
  FreeRows free;
  int asked = 0;
  walk_stages(
      s,
      [&](const Layer& layer) {
        if (warp == 0) prefetch_keys(s.step, layer, s.keys);
      },
      [&](const Element* from, int K, int rows, uint32_t bytes) {
        free.take(s, at, rows);
        if (at.stage >= kUnderWay) {
          ptx::mbarrier_wait(&s.full[under_way.at()], under_way.parity());
          under_way.advance(0);
        }
        uint64_t* full = &s.full[at.at()];
        const int mine = (rows - warp + kLoaderWarps - 1) / kLoaderWarps;
        if (lane == 0) ptx::mbarrier_arrive_expect_tx(full, mine * bytes);
        __syncwarp();
        if (row < rows) ptx::bulk_load(s.rows[at.row_at(row)], from + int64_t{row} * K, bytes, full, policy);
        at.advance(rows);
        asked += rows;
        if (threadIdx.x == kConsumers) s.asked = asked;
      });
}

// Into L2, beyond the ring: so the memory works on while the ring is full and the consumers wait for letters.
// At a pace, so that no queue grows where nobody waits: a row of 2 KB every 115 clocks and block is a third
// more than the memory delivers. And up to 112 rows ahead: 30 MB of all blocks, of 50 in L2. Both were
// searched for by bench_decode's time (docs/performance/gpu.md).
__device__ __forceinline__ void prefetch_weights(const Storage& s) {
  constexpr int kMostAhead = 112;  // rows
  constexpr uint32_t kRowCycles = 115;
  const int lane = threadIdx.x % 32;
  int walked = 0, asked = 0;
  uint32_t last = clock();
  walk_stages(
      s, [](const Layer&) {},
      [&](const Element* from, int K, int rows, uint32_t bytes) {
        walked += rows;
        const auto due = [&] {
          asked = s.asked;
          return walked <= asked ||
                 (walked <= asked + kMostAhead && static_cast<uint32_t>(clock()) - last >= kRowCycles * rows);
        };
        while (!due()) __nanosleep(50);
        if (walked <= asked) return;
        if (lane < rows) ptx::bulk_prefetch(from + int64_t{lane} * K, bytes);
        last = clock();
      });
}

// By the producer warps.
__device__ __forceinline__ void stream_weights(Storage& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32 - kConsumerWarps;
  if (warp < kLoaderWarps)
    load_weights(s, warp);
  else if (warp == kLoaderWarps)
    prefetch_weights(s);
}

}  // namespace llamita::device::persistent
