// paged_decode: attention for few rows a sequence, the keys split over blocks (flash-decoding, Dao et al.
// 2023). The rows of a sequence and the query heads of a KV head are packed as the 16 rows of an mma
// fragment, so each key and value is read once for all of them.
//
// Grid: (splits, Hkv, sequences x row tiles). Four warps take tiles of 16 keys in turn, each with its own
// online softmax; their states meet in shared memory. K and V go from memory to registers without a stop:
// the product does not care in which order d is summed (K) or which output column is which d (V), so a lane
// takes 16 consecutive bytes of a key's row, and of four keys' values, which two byte permutes a register
// turn into B fragments. The keys of the next tile are under way while one is worked on.
//
// Splits: each writes its unnormalised output, maximum and sum to scratch; the last block to finish (an
// atomic ticket that wraps to zero by itself) adds them in ascending order, so the result does not depend on
// who was last. Bound by the stream of the cache.
#include "hw/cuda/device/ptx/math.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "hw/cuda/stream.h"
#include "ops/attention/cuda_params.cuh"
#include "ops/attention/variants.h"
#include "ops/cuda.h"

namespace llamita {

namespace {

using device::AttentionParams;

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 16;
constexpr int kKeys = 16;       // a warp's tile
constexpr int kSplitKeys = 64;  // splits are multiples of this: a tile for each warp
constexpr int kMaxSplits = 64;

struct DecodeParams {
  AttentionParams attention;
  float* partial_out;    // (row tiles of all sequences, Hkv, splits, kRows, D)
  float* partial_state;  // (…, kRows, 2): maximum, sum
  unsigned* tickets;     // (row tiles of all sequences, Hkv), zero
  int row_tiles;         // a sequence
};

// Row bytes of Q in shared memory: eight rows of 64 bytes each lie in different banks.
template <int kDim>
constexpr int kQStride = (kDim * 2 + 127) / 128 * 128 + 64;

// Four floats more a row, so that the threads of a fragment write to different banks.
template <int kDim>
struct Shared {
  union {
    uint8_t q[kRows * kQStride<kDim>];
    float out[kWarps][kRows][kDim + 4];
  };
  float highest[kWarps][kRows];
  float total[kWarps][kRows];
  float split_highest[kRows][kMaxSplits];  // then the split's weight
  float split_total[kRows][kMaxSplits];
  bool last;
};

// What a block works on.
struct Work {
  int sequence, kv_head;
  int first_row, rows;      // packed rows of this tile: row = token * group + head
  int first_token, q_rows;  // of the sequence
  int first_position;       // of the sequence's first row
  int begin, end;           // keys of this split
  int splits;               // that have keys
};

__device__ __forceinline__ bool find_work(const DecodeParams& d, Work& w) {
  const AttentionParams& p = d.attention;
  w.sequence = blockIdx.z / d.row_tiles;
  w.kv_head = blockIdx.y;
  w.first_token = p.q_start[w.sequence];
  w.q_rows = p.q_start[w.sequence + 1] - w.first_token;
  w.first_row = static_cast<int>(blockIdx.z) % d.row_tiles * kRows;
  w.rows = min(kRows, w.q_rows * p.group - w.first_row);
  if (w.rows <= 0) return false;
  w.first_position = p.kv_len[w.sequence] - w.q_rows;
  const int first = p.first_key(w.first_position + w.first_row / p.group) / kKeys * kKeys;
  const int end = p.end_key(w.first_position + (w.first_row + w.rows - 1) / p.group, p.kv_len[w.sequence]);
  const int splits = gridDim.x;
  const int step = ((end - first + splits - 1) / splits + kSplitKeys - 1) / kSplitKeys * kSplitKeys;
  w.splits = (end - first + step - 1) / step;
  w.begin = first + static_cast<int>(blockIdx.x) * step;
  w.end = min(end, w.begin + step);
  return static_cast<int>(blockIdx.x) < w.splits;
}

// Packed row -> where it lies in q or out.
__device__ __forceinline__ int64_t row_offset(const AttentionParams& p, const Work& w, int row,
                                              int64_t stride) {
  const int packed = w.first_row + row;
  return (w.first_token + packed / p.group) * stride +
         (int64_t{w.kv_head} * p.group + packed % p.group) * p.head_dim;
}

template <class Element, int kDim>
__device__ __forceinline__ void stage_q(uint8_t* to, const AttentionParams& p, const Work& w) {
  for (int i = threadIdx.x; i < kRows * kDim; i += kThreads) {
    const int row = i / kDim, d = i % kDim;
    const float value =
        row < w.rows ? device::load_float(p.q, p.q_dtype, row_offset(p, w, row, p.q_stride) + d) : 0.0f;
    reinterpret_cast<Element*>(to + row * kQStride<kDim>)[d] = device::from_f32<Element>(value);
  }
}

// Sixteen keys: key 8 j + g of the tile in k[.][j].
template <int kDim>
struct KeyTile {
  static constexpr int kChunks = kDim / 32;
  uint4 chunk[kChunks][2];
  uint2 rest[2];  // of 16 elements, where D is no multiple of 32
};

template <class Element, int kDim>
__device__ __forceinline__ void load_keys(KeyTile<kDim>& tile, const AttentionParams& p, const Work& w,
                                          int key0, int g, int q) {
  const int64_t page = p.block_table[w.sequence * p.table_stride + key0 / kPageTokens];
  const Element* rows =
      device::page_of<Element>(p.k_cache, p.k_page_stride, page, w.kv_head, kDim) + key0 % kPageTokens * kDim;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const Element* row = rows + (8 * j + g) * kDim;
#pragma unroll
    for (int c = 0; c < KeyTile<kDim>::kChunks; ++c)
      tile.chunk[c][j] = *reinterpret_cast<const uint4*>(row + 32 * c + 8 * q);
    if constexpr (kDim % 32 != 0)
      tile.rest[j] = *reinterpret_cast<const uint2*>(row + kDim / 32 * 32 + 4 * q);
  }
}

template <class Element, int kDim>
__device__ __forceinline__ void score(float (&s)[2][4], const KeyTile<kDim>& k, const uint8_t* staged_q,
                                      int g, int q) {
  const uint8_t* low_row = staged_q + g * kQStride<kDim>;
  const uint8_t* high_row = low_row + 8 * kQStride<kDim>;
#pragma unroll
  for (int j = 0; j < 2; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[j][e] = 0;
#pragma unroll
  for (int c = 0; c < kDim / 32; ++c) {
    const uint4 low = *reinterpret_cast<const uint4*>(low_row + 64 * c + 16 * q);
    const uint4 high = *reinterpret_cast<const uint4*>(high_row + 64 * c + 16 * q);
    const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      ptx::mma_m16n8k16<Element>(s[j], first, k.chunk[c][j].x, k.chunk[c][j].y);
      ptx::mma_m16n8k16<Element>(s[j], second, k.chunk[c][j].z, k.chunk[c][j].w);
    }
  }
  if constexpr (kDim % 32 != 0) {
    constexpr int kAt = kDim / 32 * 64;
    const uint2 low = *reinterpret_cast<const uint2*>(low_row + kAt + 8 * q);
    const uint2 high = *reinterpret_cast<const uint2*>(high_row + kAt + 8 * q);
    const uint32_t a[4] = {low.x, high.x, low.y, high.y};
#pragma unroll
    for (int j = 0; j < 2; ++j) ptx::mma_m16n8k16<Element>(s[j], a, k.rest[j].x, k.rest[j].y);
  }
}

// Values of keys 2q, 2q+1, 2q+8, 2q+9 of the tile: kWords registers each, elements kColumn g .. of the group.
template <int kWords>
struct ValueWords {
  uint32_t word[4][kWords];
};

template <class Element, int kWords>
__device__ __forceinline__ void load_values(ValueWords<kWords>& v, const Element* rows, int key0, int end,
                                            int head_dim, int column, int q) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int key = 2 * q + i % 2 + i / 2 * 8;
    const Element* from = rows + key * head_dim + column;
    // Past the last key the page may hold anything, even NaN, and 0 * NaN is NaN.
    const bool inside = key0 + key < end;
    if constexpr (kWords == 4) {
      const uint4 bits = inside ? *reinterpret_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
      v.word[i][0] = bits.x;
      v.word[i][1] = bits.y;
      v.word[i][2] = bits.z;
      v.word[i][3] = bits.w;
    } else {
#pragma unroll
      for (int word = 0; word < kWords; ++word)
        v.word[i][word] = inside ? reinterpret_cast<const uint32_t*>(from)[word] : 0u;
    }
  }
}

// o += p v for 2 kWords tiles of eight columns: column n of tile t is element 2 kWords n + t of the group.
template <class Element, int kWords, int kTiles>
__device__ __forceinline__ void add_values(float (&o)[kTiles][4], int first_tile, const uint32_t (&p)[4],
                                           const ValueWords<kWords>& v) {
#pragma unroll
  for (int word = 0; word < kWords; ++word)
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const unsigned select = odd ? 0x7632 : 0x5410;
      const uint32_t b0 = __byte_perm(v.word[0][word], v.word[1][word], select);
      const uint32_t b1 = __byte_perm(v.word[2][word], v.word[3][word], select);
      ptx::mma_m16n8k16<Element>(o[first_tile + 2 * word + odd], p, b0, b1);
    }
}

template <int kDim>
struct Values {
  static constexpr int kGroups = kDim / 64;
  static constexpr int kRest = kDim % 64 / 16;  // words of the last group
  ValueWords<4> group[kGroups];
  ValueWords<kRest == 0 ? 1 : kRest> rest;
};

template <class Element, int kDim>
__device__ __forceinline__ void load_all_values(Values<kDim>& v, const AttentionParams& p, const Work& w,
                                                int key0, int g, int q) {
  const int64_t page = p.block_table[w.sequence * p.table_stride + key0 / kPageTokens];
  const Element* rows =
      device::page_of<Element>(p.v_cache, p.v_page_stride, page, w.kv_head, kDim) + key0 % kPageTokens * kDim;
#pragma unroll
  for (int c = 0; c < Values<kDim>::kGroups; ++c)
    load_values<Element>(v.group[c], rows, key0, w.end, kDim, 64 * c + 8 * g, q);
  if constexpr (Values<kDim>::kRest > 0)
    load_values<Element>(v.rest, rows, key0, w.end, kDim, kDim / 64 * 64 + 2 * Values<kDim>::kRest * g, q);
}

// Where column `column` (0..7) of output tile `tile` stands in the head.
template <int kDim>
__device__ __forceinline__ int dim_of(int tile, int column) {
  if (tile < kDim / 64 * 8) return tile / 8 * 64 + 8 * column + tile % 8;
  return kDim / 64 * 64 + 2 * Values<kDim>::kRest * column + tile % 8;
}

struct Softmax {
  float highest[2] = {-INFINITY, -INFINITY};  // of rows g and g + 8, in powers of two
  float total[2] = {};                        // this thread's part
  int position[2];                            // of the rows; -1 when there is none
};

// Scores to weights as an A fragment, and what is summed so far corrected.
template <class Element, int kTiles>
__device__ __forceinline__ void online_softmax(float (&s)[2][4], uint32_t (&weights)[4], Softmax& state,
                                               float (&o)[kTiles][4], const AttentionParams& p, int key0,
                                               int end, int q) {
  float correction[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int last = p.causal ? min(state.position[half], end - 1) : end - 1;
    const int first = p.first_key(state.position[half]);
    float highest = -INFINITY;
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = key0 + 8 * j + 2 * q + e;
        float& value = s[j][2 * half + e];
        value = key >= first && key <= last ? value * (p.scale * device::kLog2e) : -INFINITY;
        highest = fmaxf(highest, value);
      }
    highest = fmaxf(state.highest[half], device::quad_max(highest));
    const float base = highest == -INFINITY ? 0 : highest;  // a row that has seen no key yet
    correction[half] = highest == -INFINITY ? 1.0f : ptx::exp2_approx(state.highest[half] - base);
    state.highest[half] = highest;
    state.total[half] *= correction[half];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float low = ptx::exp2_approx(s[j][2 * half] - base),
                  high = ptx::exp2_approx(s[j][2 * half + 1] - base);
      state.total[half] += low + high;
      weights[2 * j + half] = device::pack2<Element>(low, high);
    }
  }
  if (!__any_sync(0xffffffff, correction[0] != 1 || correction[1] != 1)) return;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int e = 0; e < 4; ++e) o[tile][e] *= correction[e / 2];
}

template <class Element, int kDim>
__device__ __forceinline__ void walk_keys(const AttentionParams& p, const Work& w, const uint8_t* staged_q,
                                          Softmax& state, float (&o)[kDim / 8][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  // At 256 elements a head the registers hold one tile of keys or of values, not both.
  constexpr bool kAhead = kDim <= 128;
  KeyTile<kDim> keys;
  int key0 = w.begin + warp * kKeys;
  if (kAhead && key0 < w.end) load_keys<Element>(keys, p, w, key0, g, q);
  for (; key0 < w.end; key0 += kWarps * kKeys) {
    Values<kDim> values;
    if constexpr (kAhead)
      load_all_values<Element>(values, p, w, key0, g, q);
    else
      load_keys<Element>(keys, p, w, key0, g, q);
    float s[2][4];
    score<Element>(s, keys, staged_q, g, q);
    if (kAhead && key0 + kWarps * kKeys < w.end) load_keys<Element>(keys, p, w, key0 + kWarps * kKeys, g, q);
    if constexpr (!kAhead) load_all_values<Element>(values, p, w, key0, g, q);
    uint32_t weights[4];
    online_softmax<Element>(s, weights, state, o, p, key0, w.end, q);
#pragma unroll
    for (int c = 0; c < Values<kDim>::kGroups; ++c) add_values<Element>(o, 8 * c, weights, values.group[c]);
    if constexpr (Values<kDim>::kRest > 0) add_values<Element>(o, kDim / 64 * 8, weights, values.rest);
  }
}

template <int kDim>
__device__ __forceinline__ void leave_state(Shared<kDim>& s, const Work& w, const Softmax& state,
                                            const float (&o)[kDim / 8][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + 8 * half;
    const float total = device::quad_sum(state.total[half]);
    if (row >= w.rows) continue;
    if (q == 0) {
      s.highest[warp][row] = state.highest[half];
      s.total[warp][row] = total;
    }
    // Tiles 2i and 2i + 1 of a column are neighbours in the head.
#pragma unroll
    for (int tile = 0; tile < kDim / 8; tile += 2)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        *reinterpret_cast<float2*>(&s.out[warp][row][dim_of<kDim>(tile, 2 * q + e)]) = {
            o[tile][2 * half + e], o[tile + 1][2 * half + e]};
  }
}

// The warps' results, in ascending order, to out or, when there are more splits, to scratch.
template <int kDim>
__device__ __forceinline__ void merge_warps(const Shared<kDim>& s, const DecodeParams& d, const Work& w,
                                            int64_t slot) {
  const AttentionParams& p = d.attention;
  for (int i = threadIdx.x; i < w.rows * kDim; i += kThreads) {
    const int row = i / kDim, column = i % kDim;
    float highest = -INFINITY, sum = 0, total = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) highest = fmaxf(highest, s.highest[warp][row]);
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const float weight = device::weight_of(s.highest[warp][row], highest);
      sum += weight * s.out[warp][row][column];
      total += weight * s.total[warp][row];
    }
    if (w.splits == 1) {
      device::store_float(p.out, p.out_dtype, row_offset(p, w, row, p.out_stride) + column, sum / total);
    } else {
      const int64_t at = (slot + blockIdx.x) * kRows + row;
      d.partial_out[at * kDim + column] = sum;
      if (column == 0) {
        d.partial_state[2 * at] = highest;
        d.partial_state[2 * at + 1] = total;
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void merge_splits(Shared<kDim>& s, const DecodeParams& d, const Work& w,
                                             int64_t slot) {
  const AttentionParams& p = d.attention;
  for (int i = threadIdx.x; i < w.rows * w.splits; i += kThreads) {
    const int split = i / w.rows, row = i % w.rows;
    const float* state = d.partial_state + 2 * ((slot + split) * kRows + row);
    s.split_highest[row][split] = __ldcg(state);
    s.split_total[row][split] = __ldcg(state + 1);
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < w.rows) {
    float(&highest)[kMaxSplits] = s.split_highest[threadIdx.x];
    float common = -INFINITY, total = 0;
    for (int split = 0; split < w.splits; ++split) common = fmaxf(common, highest[split]);
    for (int split = 0; split < w.splits; ++split) {
      highest[split] = device::weight_of(highest[split], common);
      total += highest[split] * s.split_total[threadIdx.x][split];
    }
    for (int split = 0; split < w.splits; ++split) highest[split] /= total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < w.rows * (kDim / 4); i += kThreads) {
    const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
    const float* part = d.partial_out + (slot * kRows + row) * kDim + column;
    float4 sum = {0, 0, 0, 0};
#pragma unroll 16
    for (int split = 0; split < w.splits; ++split) {
      const float4 v = __ldcg(reinterpret_cast<const float4*>(part + int64_t{split} * kRows * kDim));
      const float weight = s.split_highest[row][split];
      sum.x += weight * v.x;
      sum.y += weight * v.y;
      sum.z += weight * v.z;
      sum.w += weight * v.w;
    }
    const int64_t to = row_offset(p, w, row, p.out_stride) + column;
    device::store_float(p.out, p.out_dtype, to, sum.x);
    device::store_float(p.out, p.out_dtype, to + 1, sum.y);
    device::store_float(p.out, p.out_dtype, to + 2, sum.z);
    device::store_float(p.out, p.out_dtype, to + 3, sum.w);
  }
}

template <class Element, int kDim>
__global__ void __launch_bounds__(kThreads) paged_decode(const __grid_constant__ DecodeParams d) {
  extern __shared__ __align__(16) uint8_t smem[];
  auto& s = *reinterpret_cast<Shared<kDim>*>(smem);
  const AttentionParams& p = d.attention;
  device::wait_for_predecessor();
  device::start_successor();
  Work w;
  if (!find_work(d, w)) return;
  stage_q<Element, kDim>(s.q, p, w);
  __syncthreads();

  Softmax state;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half;
    state.position[half] = row < w.rows ? w.first_position + (w.first_row + row) / p.group : -1;
  }
  float o[kDim / 8][4] = {};
  walk_keys<Element, kDim>(p, w, s.q, state, o);
  __syncthreads();  // q has been read; the results take its place
  leave_state<kDim>(s, w, state, o);
  __syncthreads();
  const int64_t tile = int64_t{blockIdx.z} * p.kv_heads + w.kv_head;
  const int64_t slot = tile * gridDim.x;
  merge_warps<kDim>(s, d, w, slot);
  if (w.splits == 1) return;
  __threadfence();  // the partial results, before the ticket
  __syncthreads();
  if (threadIdx.x == 0) {
    const auto last_ticket = static_cast<unsigned>(w.splits - 1);
    s.last = atomicInc(&d.tickets[tile], last_ticket) == last_ticket;
    __threadfence();
  }
  __syncthreads();
  if (s.last) merge_splits<kDim>(s, d, w, slot);
}

struct Shape {
  int64_t row_tiles, tiles, splits;
};

// From the shapes and the plan's bounds alone. Splits: two blocks an SM, none with fewer keys than its warps
// can share.
Shape shape_of(const AttentionArgs& args, const Caps& caps) {
  const int64_t B = args.kv_len.dim(0), Hkv = args.k_cache.dim(1), group = args.q.dim(1) / Hkv;
  Shape shape;
  shape.row_tiles = std::max<int64_t>(ceil_div(args.plan->max_q_len * group, kRows), 1);
  shape.tiles = B * shape.row_tiles;
  const int64_t blocks = std::max<int64_t>(shape.tiles * Hkv, 1);
  const int64_t most = std::max<int64_t>(ceil_div(args.plan->max_kv_len, kSplitKeys), 1);
  shape.splits = std::clamp<int64_t>(2 * caps.sm_count / blocks, 1, std::min<int64_t>(most, kMaxSplits));
  if (blocks > cuda::Stream::kCounters) shape.splits = 1;
  return shape;
}

int64_t partial_rows(const AttentionArgs& args, const Shape& shape) {
  return shape.splits > 1 ? shape.tiles * args.k_cache.dim(1) * shape.splits * kRows : 0;
}

}  // namespace

bool attention_paged_decode_supports(const AttentionArgs& args) {
  const int64_t D = args.q.dim(2), group = args.q.dim(1) / args.k_cache.dim(1);
  return has_mma_head_dim(D) && args.k_cache.dtype() != DType::f32 && cache_is_aligned(args) &&
         args.kv_len.dim(0) * ceil_div(args.plan->max_q_len * group, kRows) <= 65535;
}

int64_t attention_paged_decode_scratch(const AttentionArgs& args, const Caps& caps) {
  return partial_rows(args, shape_of(args, caps)) * (args.q.dim(2) + 2) * 4;
}

void attention_cuda_paged_decode(const AttentionArgs& args, Context& context) {
  const int64_t B = args.kv_len.dim(0), Hkv = args.k_cache.dim(1), D = args.q.dim(2);
  if (B == 0 || args.q.dim(0) == 0) return;
  const Shape shape = shape_of(args, context.caps());
  const int64_t rows = partial_rows(args, shape);
  const Arena::Scope scope(context.arena());
  DecodeParams params{.attention = attention_params(args),
                      .partial_out = nullptr,
                      .partial_state = nullptr,
                      .tickets = nullptr,
                      .row_tiles = static_cast<int>(shape.row_tiles)};
  if (rows > 0) {
    params.partial_out = context.arena().take(DType::f32, {rows * (D + 2)}).ptr<float>();
    params.partial_state = params.partial_out + rows * D;
    params.tickets = context.stream().counters();
  }
  const dim3 grid(static_cast<unsigned>(shape.splits), static_cast<unsigned>(Hkv),
                  static_cast<unsigned>(shape.tiles));
  with_head_dim(args.k_cache.dtype(), D, [&]<class Element, int kDim>() {
    launch(context, paged_decode<Element, kDim>, grid, kThreads, sizeof(Shared<kDim>), params);
  });
}

}  // namespace llamita
