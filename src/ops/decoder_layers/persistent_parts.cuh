// What the roles of persistent_sm90 share: the step's parameters, how its products are dealt to the blocks, a
// block's shared memory, and the letters (ptx/letters.cuh) by which blocks hand each other what they
// made.
#pragma once

#include <cuda_bf16.h>

#include "hw/cuda/device/ptx/letters.cuh"
#include "hw/cuda/device/ptx/mbarrier.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "ops/cuda/element.cuh"
#include "quant/kv_format.h"

namespace llamita::device::persistent {

using Element = __nv_bfloat16;

inline constexpr int kMostLayers = 48;  // whose pointers a block keeps in shared memory
inline constexpr int kMostSplits = 16;  // of the sequence's keys
inline constexpr int kMostGroup = 8;    // query heads of a KV head
inline constexpr int kMostDim = 128;
inline constexpr int kMostPages = 128;  // of a block's keys whose places are kept in shared memory

inline constexpr int kConsumerWarps = 8;
inline constexpr int kProducerWarps = 4;  // a whole group, since only groups can give registers away
inline constexpr int kLoaderWarps = 2;    // of them; the third goes ahead in L2
inline constexpr int kConsumers = 32 * kConsumerWarps;
inline constexpr int kThreads = 32 * (kConsumerWarps + kProducerWarps);
inline constexpr int kConsumerGroup = 1;  // named barrier

// Weights wait in shared memory as rows of 1024 elements, up to 16 of them a stage. Rows lie 64 bytes beyond
// a multiple of 128 apart, so that the eight lanes which read two rows together meet 32 banks.
inline constexpr int kTileRows = 16;
inline constexpr int kChunk = 1024;
inline constexpr int kRowBytes = 2 * kChunk + 64;
inline constexpr int kRingRows = 92;  // even, for the banks of the last row and the first
inline constexpr int kStages = 16;
inline constexpr int kMostRows = 128;  // of one product and block

inline constexpr int kMostOwnRows = 40;  // of the residual stream, a block's
inline constexpr int kMostK = 14336;

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

// Where letters lie; every kind comes once a layer, with the layer's tag.
struct Letters {
  uint64_t* last_tag;
  uint64_t* qkv;         // ((H + 2 Hkv) D) f32, not rotated yet
  uint64_t* mixed;       // (splits, H D / 2) pairs of elements: attention over a split's keys
  uint64_t* weights;     // (splits, H) f32: log2 of the sum of a split's exponentials
  uint64_t* hidden;      // (F / 2) pairs
  uint64_t* scaled[2];   // (C / 2) pairs: the residual stream times the gain of the norm before QKV, before
                         // gate and up
  uint64_t* squares[2];  // (blocks) f32: sums over a block's rows of the residual stream
};

// The step, without the layers.
struct Step {
  int layers, C, F, heads, kv_heads, head_dim, splits;
  float norm_eps, scale;
  float* x;
  const float* cos_sin;
  const int64_t* slot;
  const int32_t* kv_len;
  const int32_t* block_table;
  int64_t k_page_stride, v_page_stride;
  Letters letters;
  uint32_t* done;  // blocks that are, zero at first and at the end

  __device__ __forceinline__ int q_rows() const { return heads * head_dim; }
  __device__ __forceinline__ int qkv_rows() const { return (heads + 2 * kv_heads) * head_dim; }
};

struct Params {
  Step step;
  Layer layer[kMostLayers];
};

// The products of a layer in their order. Gate and up are one after the other for a block: its gates wait in
// shared memory for its ups.
enum Product : int { kQkv, kOut, kGate, kUp, kDown, kProducts };

// A product as a block sees it: `rows` rows from `first` on, both even, in tiles of nearly equal height.
struct Share {
  const Element* weight;
  int K, first, rows, tiles;

  __device__ __forceinline__ Share(const Step& p, const Layer& l, int product) {
    int N;
    switch (product) {
      case kQkv: weight = l.qkv, K = p.C, N = p.qkv_rows(); break;
      case kOut: weight = l.out, K = p.q_rows(), N = p.C; break;
      case kGate: weight = l.gate_up, K = p.C, N = p.F; break;
      case kUp: weight = l.gate_up + int64_t{p.F} * p.C, K = p.C, N = p.F; break;
      default: weight = l.down, K = p.F, N = p.C; break;
    }
    const unsigned pairs = N / 2, block = blockIdx.x, blocks = gridDim.x;
    first = static_cast<int>(2 * (pairs * block / blocks));
    rows = static_cast<int>(2 * (pairs * (block + 1) / blocks)) - first;
    tiles = (rows + kTileRows - 1) / kTileRows;
    height_ = tiles == 0 ? 0 : rows / tiles;
    higher_ = rows - height_ * tiles;
  }
  // Row of the share at which a tile begins.
  __device__ __forceinline__ int begin(int tile) const { return height_ * tile + min(tile, higher_); }
  __device__ __forceinline__ int height(int tile) const { return height_ + (tile < higher_ ? 1 : 0); }

 private:
  int height_, higher_;
};

// A block's place in attention: of a KV head's keys, in blocks of sixteen, those of one split. Blocks behind
// the last split have none.
struct AttentionShare {
  int kv_head, split, keys;
  int first_key;   // that the token sees
  int begin, end;  // blocks of keys

  __device__ __forceinline__ AttentionShare(const Step& p, int window, int all_keys) : keys(all_keys) {
    split = static_cast<int>(blockIdx.x) % p.splits;
    kv_head = static_cast<int>(blockIdx.x) / p.splits;
    first_key = window > 0 ? max(0, keys - window) : 0;
    const int first = first_key / 16, blocks = (keys + 15) / 16 - first;
    const int each = (blocks + p.splits - 1) / p.splits;
    begin = first + min(blocks, split * each);
    end = first + min(blocks, (split + 1) * each);
  }
  __device__ __forceinline__ bool exists(const Step& p) const { return kv_head < p.kv_heads; }
};

// A block's shared memory.
struct Storage {
  uint8_t rows[kRingRows][kRowBytes];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  // What a product reads and its warps' sums, which may lie where the end of a long x was; or attention's.
  static constexpr int kSumsAt = 10240;
  union {
    struct {
      Element x[kMostK];
    };
    struct {
      Element before[kSumsAt];
      float sums[2][kConsumerWarps][kMostRows];
    };
    struct {
      float heads[kMostGroup + 2][kMostDim];  // q of the group, k, v as they came
      Element turned[kMostGroup + 2]
                    [kMostDim + 32];  // normed, rotated, rounded; rows 64 bytes apart in banks
      float parts[4][34][32];         // on their way from warp to warp
    };
  };
  float own_sums[kConsumerWarps][kMostOwnRows];  // of the products that add to the residual stream
  float own[kMostOwnRows];                       // the residual stream's rows of this block
  float gains[2][kMostOwnRows];  // their gains in the layer's second norm and the next layer's first
  float gates[kMostRows];
  float turn[kMostDim];      // cosines, sines
  float norms[2][kMostDim];  // gains of q and k
  float inverse;             // 1 / RMS of the residual stream
  int keys;                  // of the sequence
  int64_t slot;              // of the step's key
  // Rows of weights that were asked for since the kernel's begin. A hint that one warp leaves for another,
  // and nothing is ordered by it; as an atomic it costs a step 0.5 %.
  volatile int asked;
  int pages[kMostPages];  // from the page on in which the block's first key lies, window aside
  // Copies of the parameters. Those lie in constant memory, whose cache is small: what was not used for a
  // layer's time comes from L2 again, and under this load that takes microseconds.
  Step step;
  Layer layer[kMostLayers];
};
static_assert(sizeof(Storage) <= 227 * 1024, "the shared memory of a block of sm_90");

__device__ __forceinline__ Storage& storage() {
  extern __shared__ __align__(16) uint8_t raw_storage[];
  return *reinterpret_cast<Storage*>(raw_storage);
}

// By all warps, a layer a warp: loads of one address each, which is what constant memory is for.
__device__ __forceinline__ void copy_parameters(const Params& p, Storage& s) {
  constexpr int kWords = sizeof(Layer) / sizeof(uint64_t);
  const int lane = threadIdx.x % 32;
  for (int layer = threadIdx.x / 32; layer < p.step.layers; layer += kThreads / 32) {
    const auto* from = reinterpret_cast<const uint64_t*>(&p.layer[layer]);
    uint64_t mine = 0;
#pragma unroll
    for (int i = 0; i < kWords; ++i)
      if (lane == i) mine = from[i];
    if (lane < kWords) reinterpret_cast<uint64_t*>(&s.layer[layer])[lane] = mine;
  }
  if (threadIdx.x == 0) s.step = p.step;
}

__device__ __forceinline__ void consumer_sync() { ptx::named_barrier_sync(kConsumerGroup, kConsumers); }

// Rows of the ring and its stages, as both sides walk over them.
struct RingPlace {
  int row = 0;
  uint32_t stage = 0;  // counted from the kernel's begin

  __device__ __forceinline__ int at() const { return static_cast<int>(stage % kStages); }
  __device__ __forceinline__ uint32_t parity() const { return stage / kStages & 1; }
  __device__ __forceinline__ int row_at(int i) const {
    const int place = row + i;
    return place < kRingRows ? place : place - kRingRows;
  }
  __device__ __forceinline__ void advance(int rows) {
    row = row_at(rows);
    ++stage;
  }
};

__device__ __forceinline__ bool came(const ulonglong2& letters, uint32_t tag) {
  return ptx::has_tag(letters.x, tag) && ptx::has_tag(letters.y, tag);
}

// Takes items 0 .. count - 1, each two letters at from(i), as they arrive: take(i, first value, second
// value). By all consumers; kAhead loads of a thread are under way at one time. Only what has not come is
// asked for again: the letters of a hundred blocks are read by a hundred, and every look that is not needed
// stands in the way of one that is.
template <int kAhead, class From, class Take>
__device__ __forceinline__ void receive(From from, int count, uint32_t tag, Take take) {
  for (int base = threadIdx.x; base < count; base += kAhead * kConsumers) {
    ulonglong2 letters[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      letters[i].x = letters[i].y = uint64_t{base + i * kConsumers < count ? ~tag : tag} << 32;
    ptx::await_letters([&] {
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
        if (!came(letters[i], tag)) letters[i] = ptx::read_two_letters(from(base + i * kConsumers));
      bool all = true;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) all = all && came(letters[i], tag);
      return all;
    });
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (base + i * kConsumers < count)
        take(base + i * kConsumers, static_cast<uint32_t>(letters[i].x), static_cast<uint32_t>(letters[i].y));
  }
}

}  // namespace llamita::device::persistent
