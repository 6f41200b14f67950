// What a consumer of flash3_sm90 does with one tile: the multiplies it queues, its mask, and the ways its
// rows leave the block.
#pragma once

#include <climits>
#include <cstdint>

#include "hw/cuda/device/online_softmax.cuh"
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/tile_store.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "ops/attention/flash3_items.cuh"
#include "quant/kv_format.h"

namespace llamita::device {

inline constexpr int kFlash3Store = 1, kFlash3Turn = 4;  // named barriers: + consumer

template <class ElementType, int kDimension>
struct Flash3Config {
  using Element = ElementType;
  static constexpr int kDim = kDimension;
  static constexpr int kConsumers = kDim == 64 ? 3 : 2;
  // Of 256 elements a head two tiles of 128 keys do not fit beside Q, nor their scores beside O.
  static constexpr int kKeys = kDim > 128 ? 64 : 128;
  static constexpr int kStages = kDim == 64 ? 4 : 2;
  static constexpr int kItems = kDim > 128 ? 1 : 2;  // whose Q is in shared memory
  static constexpr int kRows = 64 * kConsumers;
  static constexpr bool kStoresLate = kDim == 96 || kDim == 128;  // the others' registers are full
  static constexpr int kPanels = (kDim + 63) / 64;
  static constexpr int kOutPanels = kDim > 128 ? 1 : kPanels;  // of O in shared memory, a consumer
  static constexpr int kThreads = 128 * (1 + kConsumers);
  static constexpr int kProducerRegisters = kConsumers == 3 ? 32 : kDim > 128 ? 24 : 40;
  static constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : kDim > 128 ? 240 : 232;
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <=
                    (1 + kConsumers) * ptx::launch_registers(kThreads),
                "setmaxnreg would wait for ever");
};

template <class C>
struct Flash3Storage {
  uint8_t q[C::kItems][C::kPanels][C::kRows * kSwizzleRowBytes];
  uint8_t k[C::kStages][C::kPanels][C::kKeys * kSwizzleRowBytes];
  uint8_t v[C::kStages][C::kPanels][C::kKeys * kSwizzleRowBytes];
  uint8_t out[C::kConsumers][C::kOutPanels][64 * kSwizzleRowBytes];
  Ring<C::kStages> k_ring;
  Ring<C::kStages> v_ring;
  Ring<C::kItems> q_ring;
  Flash3Item item[C::kItems];  // that Q belongs to
  Flash3Walk walk;             // the producer's
};

// Of the thread. Where it is seldom needed it is worked out anew: kept, it is spilled at D = 256.
__device__ __forceinline__ int flash3_consumer() { return static_cast<int>(threadIdx.x) / 128 - 1; }

// `row`: of the item, the warp's first.
template <int kKeys>
__device__ __forceinline__ void flash3_mask(float (&s)[kKeys / 2], const Flash3Cut& cut,
                                            const Flash3Item& item, int row, int key0, int lane) {
  int begin[2], end[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = item.position0 + ((row + lane / 4 + 8 * half) >> cut.pack_log2);
    const int column = key0 + lane % 4 * 2;
    end[half] = (cut.causal ? position + 1 : item.kv_len) - column;
    begin[half] = cut.window > 0 ? position + 1 - cut.window - column : INT_MIN;
  }
  mask_scores(s, begin, end);
}

// scores = Q K^T queued.
template <class C>
__device__ __forceinline__ void queue_scores(float (&scores)[C::kKeys / 2], Flash3Storage<C>& s,
                                             uint32_t item, uint32_t stage, int consumer) {
#pragma unroll
  for (int k16 = 0; k16 < C::kDim / 16; ++k16) {
    const int panel = k16 / 4;
    const uint64_t step = k16 % 4 * kDescriptorK16;
    ptx::Wgmma<typename C::Element, C::kKeys>::ss(
        scores, wgmma_descriptor(s.q[item][panel]) + consumer * kDescriptor64Rows + step,
        wgmma_descriptor(s.k[stage][panel]) + step, k16 > 0);
  }
}

// out (+)= weights V, queued.
template <class C>
__device__ __forceinline__ void queue_values(float (&out)[C::kDim / 2],
                                             const uint32_t (&weights)[C::kKeys / 16][4], Flash3Storage<C>& s,
                                             uint32_t stage, bool accumulate) {
  const uint64_t v = wgmma_descriptor_transposed<C::kKeys>(s.v[stage]);
#pragma unroll
  for (int k16 = 0; k16 < C::kKeys / 16; ++k16)
    ptx::Wgmma<typename C::Element, C::kDim>::template rs<1>(
        out, weights[k16], v + k16 * kDescriptorK16Transposed, accumulate || k16 > 0);
}

// Zeroes the tile's rows from `first` on. Every consumer does it for itself before it multiplies: the others
// write the same zeros.
template <class C>
__device__ __forceinline__ void clear_rows(Flash3Storage<C>& s, uint32_t stage, int first, int thread) {
  for (int i = thread; i < (C::kKeys - first) * 8; i += 128)
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      *reinterpret_cast<uint4*>(s.v[stage][panel] + first * kSwizzleRowBytes + i * 16) =
          make_uint4(0, 0, 0, 0);
  ptx::fence_proxy_async_smem();
  ptx::named_barrier_sync(kFlash3Store + flash3_consumer(), 128);
}

// Rows of an item that the sequence has not all: by the threads, since what follows belongs to the next one.
template <class C>
__device__ __forceinline__ void store_ragged_panel(const Flash3Params& p, const uint8_t* tile, int panel,
                                                   int token0, int head, int rows, int thread) {
  constexpr int kPieces = 8;  // of 16 bytes a row
  for (int i = thread; i < rows * kPieces; i += 128) {
    const int row = i / kPieces, column = panel * 64 + i % kPieces * 8;
    if (column >= C::kDim) continue;
    auto* to = static_cast<typename C::Element*>(p.out_data) +
               (token0 + (row >> p.cut.pack_log2)) * p.out_stride +
               (head + (row & ((1 << p.cut.pack_log2) - 1))) * C::kDim + column;
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(tile + swizzled_piece(row, i % kPieces));
  }
}

// 64 rows of O: divided by the sums, to shared memory, from there by the copy engine.
template <class C>
__device__ __forceinline__ void store_rows(const Flash3Params& p, Flash3Storage<C>& s,
                                           float (&out)[C::kDim / 2], const RowState& state,
                                           const Flash3Item& item, int thread) {
  const int consumer = flash3_consumer(), pack_log2 = p.cut.pack_log2;
  const float inverse[2] = {1 / quad_sum(state.total[0]), 1 / quad_sum(state.total[1])};
#pragma unroll
  for (int i = 0; i < C::kDim / 2; ++i) out[i] *= inverse[i / 2 % 2];
  const int token = (consumer * 64) >> pack_log2;  // of the item, the first one here
  const int head = item.unit << pack_log2;
  const int rows = (item.valid_tokens - token) << pack_log2;
#pragma unroll
  for (int first = 0; first < C::kPanels; first += C::kOutPanels) {
    if (thread == 0) ptx::tma_store_wait_read<0>();
    ptx::named_barrier_sync(kFlash3Store + consumer, 128);
#pragma unroll
    for (int i = 0; i < C::kOutPanels; ++i)
      store_chunk<typename C::Element>(s.out[consumer][i], out, first + i, thread);
    ptx::fence_proxy_async_smem();
    ptx::named_barrier_sync(kFlash3Store + consumer, 128);
    if (rows < 64) {
#pragma unroll
      for (int i = 0; i < C::kOutPanels; ++i)
        store_ragged_panel<C>(p, s.out[consumer][i], first + i, item.token0 + token, head, rows, thread);
    } else if (thread == 0) {
#pragma unroll
      for (int i = 0; i < C::kOutPanels; ++i)
        ptx::tma_store_3d(&p.out, s.out[consumer][i], make_int3(item.token0 + token, head, (first + i) * 64));
      ptx::tma_store_commit();
    }
  }
}

// 64 rows of sums that are only a part's, for combine.
template <class C>
__device__ __forceinline__ void store_partial(const Flash3Params& p, const float (&out)[C::kDim / 2],
                                              const RowState& state, const Flash3Item& item, int row,
                                              int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(state.total[half]);
    const int at = row + lane / 4 + 8 * half, token = at >> p.cut.pack_log2;
    if (token >= item.valid_tokens) continue;
    const int head = (item.unit << p.cut.pack_log2) + (at & ((1 << p.cut.pack_log2) - 1));
    const int64_t index = (int64_t{item.split} * p.tokens + item.token0 + token) * p.cut.heads + head;
    if (lane % 4 == 0) p.states[index] = make_float2(state.highest[half], total);
    float* to = p.partial + index * C::kDim + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < C::kDim / 8; ++j)
      *reinterpret_cast<float2*>(to + 8 * j) = make_float2(out[4 * j + 2 * half], out[4 * j + 2 * half + 1]);
  }
}

}  // namespace llamita::device
