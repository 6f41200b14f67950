// flash3_sm90: FlashAttention-3's form (Shah et al., arXiv 2407.08608) over the paged cache, for prefill and
// chunks: any mix of sequence lengths, causal over a cached prefix, sliding window, or full (vision towers),
// grouped query heads, split keys for few rows over long contexts. lessons/attention_05_flash3_sm90.cu tells
// the idea on dense tensors.
//
// Work item: kRows rows of one unit of heads against tiles of 128 keys, which are two pages. Where the number
// of query heads a KV head divides the 64 rows of a consumer, a unit is the whole group and a row is (token,
// head of the group); else a unit is one head. Items come from a ticket counter: the sequences in order,
// inside one its rows from the last to the first (longest first), heads in sets whose keys and values fit in
// half of L2. Only the producer looks for items; it publishes them in shared memory with Q.
// Split keys: the key tiles of an item are cut into `splits` parts at borders that follow from lengths alone;
// each part leaves its sums in fp32, and `combine` adds them in ascending order, so the result is the same in
// every run.
//
// Invariants. Rings: every consumer meets every round. Turns: consumer c waits at barrier kTurn + c, which
// the consumer before it completes by arriving after each queueing of its own; all consumers of a block make
// the same number of turns, because they walk over the same tiles, masked or not. Rows of pages behind a
// sequence's end may hold anything, NaN included: scores of such keys are replaced, and such rows of V are
// zeroed in shared memory before the first multiply reads them.
// Bound by: wgmma and the power limit at D = 128, exponentials next to wgmma at D = 64.
#include <algorithm>
#include <vector>

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/math.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/device/tile_store.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/attention/variants.h"

namespace llamita {

namespace {

constexpr float kLog2e = 1.4426950408889634f;
constexpr int kKeys = 128;  // of a tile
constexpr int kPages = kKeys / kPageTokens;
constexpr int kPageBytes = kPageTokens * device::kSwizzleRowBytes;  // of one panel of 64 elements
constexpr int kStore = 1, kTurn = 4;                                // named barriers: + consumer
constexpr int kHalfOfL2 = 24 << 20;                                 // bytes, H100 and H200
constexpr int kMaxSplits = 16;
constexpr int kFullShift = 31;

template <class ElementType, int kDimension>
struct Config {
  using Element = ElementType;
  static constexpr int kDim = kDimension;
  static constexpr int kConsumers = kDim == 64 ? 3 : 2;
  static constexpr int kStages = kDim == 64 ? 4 : 2;
  static constexpr int kRows = 64 * kConsumers;
  static constexpr int kPanels = kDim / 64;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  // 65,536 registers: 128 x 40 + 256 x 232, or 128 x 32 + 384 x 160.
  static constexpr int kProducerRegisters = kConsumers == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 232 : 160;
};

// How rows, heads and keys are cut: the same on the host, in the kernel and in combine.
struct Cut {
  int heads;
  int pack_log2;     // heads of a unit
  int rows;          // of an item
  int units_per_kv;  // units that read one KV head
  int splits;
  int window;  // 0: all keys
  // A row stands at position0 + (row >> position_shift): its token's, or, where attention is not causal and
  // position0 is the sequence's last key, with a shift beyond every row all at that key.
  int position_shift;

  __host__ __device__ bool causal() const { return position_shift < kFullShift; }
  __host__ __device__ int units() const { return heads >> pack_log2; }
  __host__ __device__ int tokens() const { return rows >> pack_log2; }  // of an item
};

struct KeyTiles {
  int begin, end;
};

// The key tiles that tokens first .. last (positions) see.
__host__ __device__ inline KeyTiles key_tiles(const Cut& cut, int first, int last) {
  const int seen_from = cut.window > 0 ? first + 1 - cut.window : 0;
  return {seen_from > 0 ? seen_from / kKeys : 0, last / kKeys + 1};
}

struct Params {
  CUtensorMap q;    // (T, H, D), box (tokens of an item, heads of a unit, 64)
  CUtensorMap k;    // (pages, Hkv, 64, D), box (1, 1, 64, 64)
  CUtensorMap v;    // as k
  CUtensorMap out;  // (T, H, D), box (tokens of 64 rows, heads of a unit, 64)
  Cut cut;
  const int32_t* q_start;      // (B+1)
  const int32_t* kv_len;       // (B)
  const int32_t* block_table;  // (B, max_blocks)
  uint32_t* tickets;           // tickets drawn, blocks done: zero before and after every launch
  int max_blocks;
  int sequences;
  int tokens;  // T
  float scale_log2;
  void* out_data;  // element type of q
  int64_t out_stride;
  float* partial;  // (splits, T, H, D), with splits > 1
  float2* states;  // (splits, T, H): highest score, sum
};

struct Item {
  int sequence;  // negative: no more items
  int unit;
  int token0;        // row of q
  int valid_tokens;  // of the item
  int position0;     // of token0
  int kv_len;
  int split;
  KeyTiles tiles;
};

template <class C>
struct Storage {
  uint8_t q[C::kPanels][C::kRows * device::kSwizzleRowBytes];
  uint8_t k[C::kStages][C::kPanels][kKeys * device::kSwizzleRowBytes];
  uint8_t v[C::kStages][C::kPanels][kKeys * device::kSwizzleRowBytes];
  uint8_t out[C::kConsumers][C::kPanels][64 * device::kSwizzleRowBytes];
  device::Ring<C::kStages> k_ring;
  device::Ring<C::kStages> v_ring;
  device::Ring<1> q_ring;
  Item item;  // that Q belongs to
};

// Walks over the items in ascending order of their index; made for the producer's one thread.
class Items {
 public:
  __device__ __forceinline__ explicit Items(const Params& p) : p_(p) { enter(); }

  // False when there is no such item. An item without keys of its own has tiles.begin == tiles.end.
  __device__ __forceinline__ bool find(int index, Item& item) {
    while (sequence_ < p_.sequences && index >= base_ + count_) {
      base_ += count_;
      ++sequence_;
      enter();
    }
    if (sequence_ == p_.sequences) return false;
    const Cut& cut = p_.cut;
    int inside = index - base_;
    item.split = inside % cut.splits;
    inside /= cut.splits;
    const int set = set_of(kv_len_);
    const int group = inside / (set * row_tiles_);
    const int width = min(set, cut.units() - group * set);
    inside -= group * set * row_tiles_;
    const int first_token = (row_tiles_ - 1 - inside / width) * cut.tokens();
    item.sequence = sequence_;
    item.unit = group * set + inside % width;
    item.token0 = q_begin_ + first_token;
    item.valid_tokens = min(cut.tokens(), q_len_ - first_token);
    item.position0 = cut.causal() ? kv_len_ - q_len_ + first_token : kv_len_ - 1;
    item.kv_len = kv_len_;
    const int last = cut.causal() ? item.position0 + item.valid_tokens - 1 : item.position0;
    const KeyTiles all = key_tiles(cut, item.position0, last);
    const int count = all.end - all.begin, parts = min(cut.splits, count);
    item.tiles = {all.begin, all.begin};
    if (item.split < parts)
      item.tiles = {all.begin + count * item.split / parts, all.begin + count * (item.split + 1) / parts};
    return true;
  }

 private:
  __device__ __forceinline__ int set_of(int kv_len) const {
    const int dim_bytes = p_.cut.rows == 192 ? 64 * 4 : 128 * 4;  // K and V of one key and KV head
    const int fit = kHalfOfL2 / dim_bytes / max(kv_len, 1) * p_.cut.units_per_kv;
    return min(max(fit, 1), p_.cut.units());
  }

  __device__ __forceinline__ void enter() {
    count_ = 0;
    if (sequence_ >= p_.sequences) return;
    q_begin_ = p_.q_start[sequence_];
    q_len_ = p_.q_start[sequence_ + 1] - q_begin_;
    kv_len_ = p_.kv_len[sequence_];
    row_tiles_ = (q_len_ + p_.cut.tokens() - 1) / p_.cut.tokens();
    count_ = row_tiles_ * p_.cut.units() * p_.cut.splits;
  }

  const Params& p_;
  int sequence_ = 0, base_ = 0, count_ = 0;
  int q_begin_ = 0, q_len_ = 0, kv_len_ = 0, row_tiles_ = 0;
};

// One thread. The order of loads is the order in which consumers want them: K(j - 1) before V(j).
template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s) {
  device::RingCursor<C::kStages> at_k, at_v;
  device::RingCursor<1> at_q;
  Items items(p);
  const auto load = [&](auto& ring, auto& at, auto& stages, const CUtensorMap* map, const Item& item, int j) {
    ring.acquire(at, sizeof(stages[0]));
    const int32_t* table = p.block_table + int64_t{item.sequence} * p.max_blocks;
#pragma unroll
    for (int half = 0; half < kPages; ++half) {
      // A tile may end inside its first page: the second half then is the first page again, which is masked.
      const int block = j * kPages + half;
      const int page = table[block * kPageTokens < item.kv_len ? block : j * kPages];
#pragma unroll
      for (int panel = 0; panel < C::kPanels; ++panel)
        ptx::tma_load_4d(stages[at.stage()][panel] + half * kPageBytes, map,
                         make_int4(page, item.unit / p.cut.units_per_kv, 0, panel * 64),
                         &ring.full[at.stage()]);
    }
    at.advance();
  };
  Item item;
  for (int index = blockIdx.x; items.find(index, item);
       index = static_cast<int>(gridDim.x + atomicAdd(&p.tickets[0], 1))) {
    if (item.tiles.begin == item.tiles.end) continue;
    ptx::mbarrier_wait(&s.q_ring.empty[0], at_q.empty_parity());
    s.item = item;
    ptx::mbarrier_arrive_expect_tx(&s.q_ring.full[0], sizeof(s.q));
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      ptx::tma_load_3d(s.q[panel], &p.q, make_int3(item.token0, item.unit << p.cut.pack_log2, panel * 64),
                       &s.q_ring.full[0]);
    at_q.advance();
    load(s.k_ring, at_k, s.k, &p.k, item, item.tiles.end - 1);
    for (int j = item.tiles.end - 1; j > item.tiles.begin; --j) {
      load(s.k_ring, at_k, s.k, &p.k, item, j - 1);
      load(s.v_ring, at_v, s.v, &p.v, item, j);
    }
    load(s.v_ring, at_v, s.v, &p.v, item, item.tiles.begin);
  }
  ptx::mbarrier_wait(&s.q_ring.empty[0], at_q.empty_parity());
  s.item.sequence = -1;
  ptx::mbarrier_arrive(&s.q_ring.full[0]);
  // The last block to come here leaves the counters as it found them: nobody draws a ticket any more.
  __threadfence();
  if (atomicInc(&p.tickets[1], gridDim.x - 1) == gridDim.x - 1) p.tickets[0] = 0;
}

// The four lanes that hold one row.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

struct RowState {
  float highest[2];
  float total[2];  // the thread's own part
};

// `row`: of the item, the warp's first.
__device__ __forceinline__ void mask(float (&s)[kKeys / 2], const Cut& cut, int position0, int row, int key0,
                                     int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = position0 + ((row + lane / 4 + 8 * half) >> cut.position_shift);
    const int end = position + 1 - key0 - lane % 4 * 2;
    const int begin = cut.window > 0 ? end - cut.window : INT_MIN;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (8 * j + e >= end || 8 * j + e < begin) s[4 * j + 2 * half + e] = -INFINITY;
  }
}

// Scores to weights; returns in `correction` what earlier sums of the rows must be multiplied with.
__device__ __forceinline__ void softmax(float (&s)[kKeys / 2], RowState& state, float (&correction)[2],
                                        float scale_log2) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float highest = s[2 * half];
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
      highest = fmaxf(highest, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
    highest = fmaxf(state.highest[half], quad_max(highest));
    const float base = highest == -INFINITY ? 0 : highest * scale_log2;  // no key seen yet
    correction[half] = ptx::exp2_approx(state.highest[half] * scale_log2 - base);
    state.highest[half] = highest;
    float total = state.total[half] * correction[half];
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        total += s[4 * j + 2 * half + e] = ptx::exp2_approx(s[4 * j + 2 * half + e] * scale_log2 - base);
    state.total[half] = total;
  }
}

template <class Element>
__device__ __forceinline__ void pack(uint32_t (&weights)[kKeys / 16][4], const float (&s)[kKeys / 2]) {
#pragma unroll
  for (int k16 = 0; k16 < kKeys / 16; ++k16)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[k16][i] = device::pack_pair<Element>(s[8 * k16 + 2 * i], s[8 * k16 + 2 * i + 1]);
}

template <class C>
__device__ __forceinline__ void queue_scores(float (&scores)[kKeys / 2], Storage<C>& s, uint32_t stage,
                                             int consumer) {
#pragma unroll
  for (int panel = 0; panel < C::kPanels; ++panel)
    device::wgmma_k64<typename C::Element, kKeys>(
        scores, device::wgmma_descriptor(s.q[panel]) + consumer * device::kDescriptor64Rows,
        device::wgmma_descriptor(s.k[stage][panel]), panel > 0);
}

template <class C>
__device__ __forceinline__ void queue_values(float (&out)[C::kDim / 2],
                                             const uint32_t (&weights)[kKeys / 16][4], Storage<C>& s,
                                             uint32_t stage, bool accumulate) {
  const uint64_t v = device::wgmma_descriptor_transposed<kKeys>(s.v[stage]);
#pragma unroll
  for (int k16 = 0; k16 < kKeys / 16; ++k16)
    ptx::Wgmma<typename C::Element, C::kDim>::template rs<1>(
        out, weights[k16], v + k16 * device::kDescriptorK16Transposed, accumulate || k16 > 0);
}

// Zeroes the rows from `first` on. Every consumer does it for itself before it multiplies: the others write
// the same zeros.
template <class C>
__device__ __forceinline__ void clear_rows(Storage<C>& s, uint32_t stage, int first, int consumer,
                                           int thread) {
  for (int i = thread; i < (kKeys - first) * 8; i += 128)
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      *reinterpret_cast<uint4*>(s.v[stage][panel] + first * device::kSwizzleRowBytes + i * 16) =
          make_uint4(0, 0, 0, 0);
  ptx::fence_proxy_async_smem();
  ptx::named_barrier_sync(kStore + consumer, 128);
}

// 64 rows of O: divided by the sums, to shared memory, from there by the copy engine; rows past the
// sequence's end belong to the next one, so an item that has such rows is written by the threads.
template <class C>
__device__ __forceinline__ void store_rows(const Params& p, Storage<C>& s, float (&out)[C::kDim / 2],
                                           const RowState& state, const Item& item, int consumer,
                                           int thread) {
  const int pack_log2 = p.cut.pack_log2;
  const float inverse[2] = {1 / quad_sum(state.total[0]), 1 / quad_sum(state.total[1])};
#pragma unroll
  for (int i = 0; i < C::kDim / 2; ++i) out[i] *= inverse[i / 2 % 2];
  if (thread == 0) ptx::tma_store_wait_read<0>();
  ptx::named_barrier_sync(kStore + consumer, 128);
#pragma unroll
  for (int panel = 0; panel < C::kPanels; ++panel)
    device::store_chunk<typename C::Element>(s.out[consumer][panel], out, panel, thread);
  ptx::fence_proxy_async_smem();
  ptx::named_barrier_sync(kStore + consumer, 128);
  const int token = (consumer * 64) >> pack_log2;  // of the item, the first one here
  const int head = item.unit << pack_log2;
  const int valid_rows = (item.valid_tokens - token) << pack_log2;
  if (valid_rows >= 64) {
    if (thread == 0) {
#pragma unroll
      for (int panel = 0; panel < C::kPanels; ++panel)
        ptx::tma_store_3d(&p.out, s.out[consumer][panel], make_int3(item.token0 + token, head, panel * 64));
      ptx::tma_store_commit();
    }
    return;
  }
  constexpr int kPieces = C::kDim / 8;  // of 16 bytes a row
  for (int i = thread; i < valid_rows * kPieces; i += 128) {
    const int row = i / kPieces, piece = i % kPieces;
    auto* to = static_cast<typename C::Element*>(p.out_data) +
               (item.token0 + token + (row >> pack_log2)) * p.out_stride +
               (head + (row & ((1 << pack_log2) - 1))) * C::kDim + piece * 8;
    *reinterpret_cast<uint4*>(to) =
        *reinterpret_cast<const uint4*>(s.out[consumer][piece / 8] + device::swizzled_piece(row, piece % 8));
  }
}

// 64 rows of sums that are only a part's, for combine.
template <class C>
__device__ __forceinline__ void store_partial(const Params& p, const float (&out)[C::kDim / 2],
                                              const RowState& state, const Item& item, int row, int lane) {
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

template <class C>
__device__ __forceinline__ void consume(const Params& p, Storage<C>& s, int consumer) {
  constexpr int kPair = 256;  // threads at a turn: who hands over and who waits
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const int own_turn = kTurn + consumer, next_turn = kTurn + (consumer + 1) % C::kConsumers;
  const int row = consumer * 64 + thread / 32 * 16, shift = p.cut.position_shift, window = p.cut.window;
  if (consumer == C::kConsumers - 1) ptx::named_barrier_arrive(next_turn, kPair);
  device::RingCursor<C::kStages> at_k, at_v;
  for (device::RingCursor<1> at_q;; at_q.advance()) {
    s.q_ring.wait_full(at_q);
    const Item item = s.item;
    if (item.sequence < 0) break;
    const int first = item.position0 + (row >> shift), last = item.position0 + ((row + 15) >> shift);
    const auto mask_tile = [&](float(&scores)[kKeys / 2], int j) {
      if ((j + 1) * kKeys > first + 1 || (window > 0 && j * kKeys < last + 1 - window))
        mask(scores, p.cut, item.position0, row, j * kKeys, lane);
    };
    float scores[kKeys / 2], out[C::kDim / 2], correction[2];
    uint32_t weights[kKeys / 16][4];
    RowState state{{-INFINITY, -INFINITY}, {0, 0}};

    s.k_ring.wait_full(at_k);
    ptx::wgmma_fence();
    queue_scores(scores, s, at_k.stage(), consumer);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(scores);
    if (lane == 0) s.k_ring.release(at_k.stage());
    at_k.advance();
    mask_tile(scores, item.tiles.end - 1);
    softmax(scores, state, correction, p.scale_log2);
    pack<typename C::Element>(weights, scores);
    if (item.tiles.end * kKeys > item.kv_len) {
      s.v_ring.wait_full(at_v);
      clear_rows(s, at_v.stage(), item.kv_len - (item.tiles.end - 1) * kKeys, consumer, thread);
    }

    for (int j = item.tiles.end - 2; j >= item.tiles.begin; --j) {
      s.k_ring.wait_full(at_k);
      ptx::named_barrier_sync(own_turn, kPair);
      ptx::wgmma_fence();
      queue_scores(scores, s, at_k.stage(), consumer);
      ptx::wgmma_commit();
      s.v_ring.wait_full(at_v);
      ptx::wgmma_fence();
      queue_values<C>(out, weights, s, at_v.stage(), j < item.tiles.end - 2);
      ptx::wgmma_commit();
      ptx::named_barrier_arrive(next_turn, kPair);
      ptx::wgmma_wait<1>();
      ptx::wgmma_pin(scores);
      if (lane == 0) s.k_ring.release(at_k.stage());
      at_k.advance();
      mask_tile(scores, j);
      softmax(scores, state, correction, p.scale_log2);
      ptx::wgmma_wait<0>();
      ptx::wgmma_pin(out);
      if (lane == 0) s.v_ring.release(at_v.stage());
      at_v.advance();
#pragma unroll
      for (int i = 0; i < C::kDim / 2; ++i) out[i] *= correction[i / 2 % 2];
      pack<typename C::Element>(weights, scores);
    }
    if (lane == 0) s.q_ring.release(0);  // the item has been read, its last scores are made

    s.v_ring.wait_full(at_v);
    ptx::wgmma_fence();
    queue_values<C>(out, weights, s, at_v.stage(), item.tiles.end - item.tiles.begin > 1);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(out);
    if (lane == 0) s.v_ring.release(at_v.stage());
    at_v.advance();
    if (p.cut.splits > 1)
      store_partial<C>(p, out, state, item, row, lane);
    else
      store_rows(p, s, out, state, item, consumer, thread);
  }
  if (consumer == 0) ptx::named_barrier_sync(own_turn, kPair);
  if (thread == 0) ptx::tma_store_wait<0>();
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) flash3(const __grid_constant__ Params p) {
  auto& s = device::shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  if (threadIdx.x == 0) {
    s.k_ring.init(C::kConsumers * 4);
    s.v_ring.init(C::kConsumers * 4);
    s.q_ring.init(C::kConsumers * 4);
  }
  __syncthreads();
  ptx::grid_dependency_wait();
  if (group == 0) {
    ptx::setmaxnreg_decrease<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C>(p, s);
  } else {
    ptx::setmaxnreg_increase<C::kConsumerRegisters>();
    consume<C>(p, s, group - 1);
  }
}

// One warp a row of one head: the parts' sums in ascending order of their keys.
template <class C>
__global__ void __launch_bounds__(128) combine(const __grid_constant__ Params p) {
  constexpr int kOwn = C::kDim / 32;  // elements a lane
  ptx::grid_dependency_wait();
  const int warp = static_cast<int>(blockIdx.x * 4 + threadIdx.x / 32), lane = threadIdx.x % 32;
  const int token = warp / p.cut.heads, head = warp % p.cut.heads;
  if (token >= p.tokens) return;
  int low = 0, high = p.sequences - 1;  // the last sequence that begins at or before the token
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (p.q_start[middle] <= token)
      low = middle;
    else
      high = middle - 1;
  }
  const int q_begin = p.q_start[low], q_len = p.q_start[low + 1] - q_begin, tokens = p.cut.tokens();
  if (token >= q_begin + q_len) return;  // padding behind the last sequence
  const int first = (token - q_begin) / tokens * tokens, keys = p.kv_len[low];
  const int position0 = p.cut.causal() ? keys - q_len + first : keys - 1;
  const int last = p.cut.causal() ? position0 + min(tokens, q_len - first) - 1 : position0;
  const KeyTiles tiles = key_tiles(p.cut, position0, last);
  const int parts = min(p.cut.splits, tiles.end - tiles.begin);

  const int64_t stride = int64_t{p.tokens} * p.cut.heads;
  float highest = -INFINITY;
  for (int part = 0; part < parts; ++part) highest = fmaxf(highest, p.states[part * stride + warp].x);
  float total = 0, sum[kOwn] = {};
  for (int part = 0; part < parts; ++part) {
    const float2 state = p.states[part * stride + warp];
    const float weight = ptx::exp2_approx((state.x - highest) * p.scale_log2);
    if (state.y == 0) continue;  // the part has none of the row's keys
    total += weight * state.y;
    const float* from = p.partial + (part * stride + warp) * C::kDim + lane * kOwn;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) sum[i] += weight * from[i];
  }
  uint32_t packed[kOwn / 2];
#pragma unroll
  for (int i = 0; i < kOwn; i += 2)
    packed[i / 2] = device::pack_pair<typename C::Element>(sum[i] / total, sum[i + 1] / total);
  auto* to = reinterpret_cast<uint32_t*>(static_cast<typename C::Element*>(p.out_data) +
                                         token * p.out_stride + head * C::kDim + lane * kOwn);
#pragma unroll
  for (int i = 0; i < kOwn / 2; ++i) to[i] = packed[i];
}

Cut cut_for(const AttentionArgs& args, const Caps& caps) {
  const auto heads = static_cast<int>(args.q.dim(1)), kv_heads = static_cast<int>(args.k_cache.dim(1));
  const int group = heads / kv_heads;
  Cut cut{};
  cut.heads = heads;
  cut.rows = args.q.dim(2) == 64 ? Config<__half, 64>::kRows : Config<__half, 128>::kRows;
  while ((1 << cut.pack_log2) < group) ++cut.pack_log2;
  if ((1 << cut.pack_log2) != group || group > 64) cut.pack_log2 = 0;
  cut.units_per_kv = group >> cut.pack_log2;
  cut.window = args.window;
  cut.position_shift = args.causal ? cut.pack_log2 : kFullShift;

  // Items of the step from the plan; where it has bounds alone, as if every sequence had as many rows.
  const auto items_of = [&](int rows) { return (rows + cut.tokens() - 1) / cut.tokens() * cut.units(); };
  std::vector<int> rows(static_cast<size_t>(args.kv_len.dim(0)), 0);
  if (args.plan->items.empty()) std::fill(rows.begin(), rows.end(), args.plan->max_q_len);
  for (const AttentionPlan::Item& item : args.plan->items)
    rows[static_cast<size_t>(item.sequence)] += item.q_end - item.q_begin;
  int items = 0;
  for (const int count : rows) items += items_of(count);
  int tiles = (args.plan->max_kv_len + kKeys - 1) / kKeys;
  if (args.window > 0) tiles = std::min(tiles, (args.window + cut.tokens()) / kKeys + 2);
  // As many parts as SMs are left over, of four tiles at the least.
  cut.splits = std::clamp(std::min(caps.sm_count / std::max(items, 1), tiles / 4), 1, kMaxSplits);
  return cut;
}

template <class C>
void launch(const AttentionArgs& args, Context& context) {
  static_assert(device::smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const int64_t T = args.q.dim(0), H = args.q.dim(1);
  Params p{};
  p.cut = cut_for(args, context.caps());
  const int unit_heads = 1 << p.cut.pack_log2;
  p.q = cuda::make_tensor_map(args.q, {p.cut.tokens(), unit_heads, 64});
  p.k = cuda::make_tensor_map(args.k_cache, {1, 1, kPageTokens, 64});
  p.v = cuda::make_tensor_map(args.v_cache, {1, 1, kPageTokens, 64});
  p.out = cuda::make_tensor_map(args.out, {64 / unit_heads, unit_heads, 64});
  p.q_start = args.q_start.ptr<int32_t>();
  p.kv_len = args.kv_len.ptr<int32_t>();
  p.block_table = args.block_table.ptr<int32_t>();
  p.tickets = context.stream().counters();
  p.max_blocks = static_cast<int>(args.block_table.dim(1));
  p.sequences = static_cast<int>(args.kv_len.dim(0));
  p.tokens = static_cast<int>(T);
  p.scale_log2 = args.scale * kLog2e;
  p.out_data = args.out.data();
  p.out_stride = args.out.stride(0);
  if (p.cut.splits > 1) {
    Arena& arena = context.arena();
    p.partial = arena.take(DType::f32, {p.cut.splits, T, H, C::kDim}).ptr<float>();
    p.states = reinterpret_cast<float2*>(arena.take(DType::f32, {p.cut.splits, T, H, 2}).ptr<float>());
  }
  const cudaStream_t stream = context.stream().get();
  cuda::launch(flash3<C>,
               {.grid = dim3(static_cast<unsigned>(context.caps().sm_count)),
                .block = dim3(C::kThreads),
                .smem = device::smem_bytes<Storage<C>>(),
                .stream = stream,
                .pdl = true},
               p);
  if (p.cut.splits > 1) {
    cuda::launch(combine<C>,
                 {.grid = dim3(static_cast<unsigned>((T * H + 3) / 4)),
                  .block = dim3(128),
                  .stream = stream,
                  .pdl = true},
                 p);
  }
}

}  // namespace

bool attention_flash3_supports(const AttentionArgs& args, const Caps& caps) {
  const int64_t dim = args.q.dim(2);
  const DType dtype = args.q.dtype();
  return caps.device == DeviceKind::cuda && caps.arch == 90 && (dim == 64 || dim == 128) &&
         (dtype == DType::bf16 || dtype == DType::f16) && args.k_cache.dtype() == dtype &&
         args.out.dtype() == dtype && args.q.stride(0) % 8 == 0 && args.out.stride(0) % 8 == 0;
}

int64_t attention_flash3_scratch_bytes(const AttentionArgs& args, const Caps& caps) {
  const int splits = cut_for(args, caps).splits;
  if (splits == 1) return 0;
  // Two tensors, each at a 64-byte border.
  return splits * args.q.dim(0) * args.q.dim(1) * (args.q.dim(2) + 2) * 4 + 128;
}

void attention_flash3_sm90(const AttentionArgs& args, Context& context) {
  const bool wide = args.q.dim(2) == 128;
  if (args.q.dtype() == DType::bf16)
    wide ? launch<Config<__nv_bfloat16, 128>>(args, context)
         : launch<Config<__nv_bfloat16, 64>>(args, context);
  else
    wide ? launch<Config<__half, 128>>(args, context) : launch<Config<__half, 64>>(args, context);
}

}  // namespace llamita
