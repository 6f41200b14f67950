// What the roles of persistent_sm90 share: the step's parameters, how its products are dealt to the blocks,
// and a block's shared memory.
#pragma once

#include <cuda_bf16.h>

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/atomic.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "ops/cuda/element.cuh"
#include "quant/kv_format.h"

namespace llamita::device::persistent {

using Element = __nv_bfloat16;

inline constexpr int kMostLayers = 96;  // their pointers are parameters of the kernel
inline constexpr int kMostSplits = 8;   // of a sequence's keys
inline constexpr int kMostTokens = 16;
inline constexpr int kSplitTokens = 8;  // with more, keys are not split

inline constexpr int kConsumerWarps = 8;
inline constexpr int kProducerWarps = 4;
inline constexpr int kConsumers = 32 * kConsumerWarps;
inline constexpr int kThreads = 32 * (kConsumerWarps + kProducerWarps);
inline constexpr int kConsumerGroup = 1;  // named barrier

// A stage: up to 16 rows of a weight, 1024 elements of each. Rows lie 64 bytes beyond a multiple of 128
// apart, so that the eight lanes which read two rows together meet 32 banks.
inline constexpr int kTileRows = 16;
inline constexpr int kChunk = 1024;
inline constexpr int kRowBytes = 2 * kChunk + 64;
inline constexpr int kStages = 6;
inline constexpr int kMostTiles = 8;  // of one product and block: their sums stay in registers

inline constexpr int kMostOwnRows = 40;    // of the residual stream, a block's
inline constexpr int kMostPairRows = 112;  // of gate and of up

struct Layer {
  const Element* qkv;
  const Element* out;
  const Element* gate_up;
  const Element* down;
  const float* attn_norm;
  const float* mlp_norm;
  const float* qkv_bias;  // or nullptr
  const float* q_norm;    // or nullptr
  const float* k_norm;
  Element* k_cache;
  Element* v_cache;
  int window;
};

struct Params {
  int layers, tokens, C, F, heads, kv_heads, head_dim, splits;
  float norm_eps, scale;
  float* x;
  const float* cos_sin;
  const int64_t* slots;
  const int32_t* kv_len;
  const int32_t* block_table;
  int64_t x_stride, cos_sin_stride, table_stride, k_page_stride, v_page_stride;
  // Between the blocks, in global memory.
  float* qkv;          // (T, (H + 2 Hkv) D), not rotated yet
  Element* scaled;     // (T, C), the residual stream times the next norm's gain
  float* squares;      // (T, blocks), sums over a block's rows of the residual stream
  Element* mixed;      // (T, H D), what attention gives; where keys are split, from
  float* part_out;     // (T, H, splits, D)
  float2* part_state;  // (T, H, splits): maximum, sum
  Element* hidden;     // (T, F)
  uint32_t* counters;  // two zeros: arrivals at barriers, blocks that are done
  Layer layer[kMostLayers];

  __device__ __forceinline__ int q_rows() const { return heads * head_dim; }
  __device__ __forceinline__ int qkv_rows() const { return (heads + 2 * kv_heads) * head_dim; }
};

// The products of a layer in their order. Gate and up are one after the other for a block: its gates wait in
// shared memory for its ups.
enum Product : int { kQkv, kOut, kGate, kUp, kDown, kProducts };

// A product as a block sees it: `rows` rows from `first` on, in tiles of nearly equal height.
struct Share {
  const Element* weight;
  int K, first, rows, tiles;

  __device__ __forceinline__ Share(const Params& p, int layer, int product) {
    const Layer& l = p.layer[layer];
    int N;
    switch (product) {
      case kQkv: weight = l.qkv, K = p.C, N = p.qkv_rows(); break;
      case kOut: weight = l.out, K = p.q_rows(), N = p.C; break;
      case kGate: weight = l.gate_up, K = p.C, N = p.F; break;
      case kUp: weight = l.gate_up + int64_t{p.F} * p.C, K = p.C, N = p.F; break;
      default: weight = l.down, K = p.F, N = p.C; break;
    }
    const int64_t block = blockIdx.x, blocks = gridDim.x;
    first = static_cast<int>(N * block / blocks);
    rows = static_cast<int>(N * (block + 1) / blocks) - first;
    tiles = (rows + kTileRows - 1) / kTileRows;
  }
  // Row of the share at which a tile begins.
  __device__ __forceinline__ int begin(int tile) const { return rows * tile / tiles; }
};

struct Storage {
  uint8_t stage[kStages][kTileRows * kRowBytes];
  Ring<kStages> ring;
  union {
    float sums[4096];        // of products, before they are added over the warps; merged parts before that
    float parts[4][34][32];  // of attention, on their way from warp to warp
  };
  float own[kMostOwnRows][kMostTokens];  // the residual stream's rows of this block
  float gates[kMostPairRows][kMostTokens];
  float inverse[kMostTokens];  // 1 / RMS of the residual stream
};

__device__ __forceinline__ void consumer_sync() { ptx::named_barrier_sync(kConsumerGroup, kConsumers); }

// All consumers of all blocks. What any of them wrote before is visible to all after. `arrivals` counts the
// calls.
__device__ __forceinline__ void grid_sync(const Params& p, uint32_t& arrivals) {
  arrivals += gridDim.x;
  consumer_sync();
  if (threadIdx.x == 0) {
    ptx::add_one_release(&p.counters[0]);
    while (ptx::load_acquire(&p.counters[0]) < arrivals) {
    }
  }
  consumer_sync();
}

// Where a unit of attention's work lies: a sequence, a KV head, and of its keys blocks of sixteen.
struct AttentionUnit {
  int sequence, kv_head, split, keys;
  int first_key;   // that the token sees
  int begin, end;  // blocks of this unit

  __device__ __forceinline__ AttentionUnit(const Params& p, int window, int unit) {
    split = unit % p.splits;
    kv_head = unit / p.splits % p.kv_heads;
    sequence = unit / (p.splits * p.kv_heads);
    keys = p.kv_len[sequence];
    first_key = window > 0 ? max(0, keys - window) : 0;
    const int first = first_key / 16, blocks = (keys + 15) / 16 - first,
              each = (blocks + p.splits - 1) / p.splits;
    begin = first + min(blocks, split * each);
    end = first + min(blocks, (split + 1) * each);
  }
  __device__ __forceinline__ static int count(const Params& p) { return p.tokens * p.kv_heads * p.splits; }
  // Elements from the cache's beginning to row `key` of the head.
  __device__ __forceinline__ int64_t row(const Params& p, int64_t page_stride, int key) const {
    const int page = p.block_table[sequence * p.table_stride + key / kPageTokens];
    return page * page_stride + (int64_t{kv_head} * kPageTokens + key % kPageTokens) * p.head_dim;
  }
};

}  // namespace llamita::device::persistent
