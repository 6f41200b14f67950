// Step 5: FlashAttention-3's form (Shah et al., arXiv 2407.08608): the copy engine feeds two or three groups
// of 64 queries, and the softmax runs under somebody's multiplies.
//
// Block: one producer warpgroup and kConsumers consumers (D = 128: 2, D = 64: 3) on a tile of 64 kConsumers
// queries of one head; tiles of 128 keys from the last to the first, so that masks are needed at the start
// only. Two overlaps: (a) inside a consumer, S(j + 1) = Q K^T is queued before P V(j), so the softmax of
// j + 1 runs while P V(j) multiplies; P stays in registers as the A operand. (b) between consumers, turns
// by named barriers: one queues its multiplies while the others are in their softmax. The queue of tiles is a
// counter in global memory (longest first inside a set of heads whose K and V fit in half of L2), and the
// producer loads the next tile's Q, K and V while the consumers finish this one.
// Shared memory: Q 64 C x D, O the same, K and V in rings of kStages x 128 x D each, bf16: 192 KB at D = 128.
// Bound by: exponentials (16 a clock an SM) next to wgmma at D = 64, wgmma and the power limit at D = 128.
//
// Invariants. Rings: every consumer meets every round. Turns (device/turns.cuh): all consumers of a block
// make the same number of turns, for they walk over the same tiles, masked or not. The Q barrier's phase also
// publishes the tile's number.
#include <climits>

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/turns.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/tensor_map.h"
#include "lessons/attention.h"
#include "lessons/attention_parts.cuh"
#include "lessons/gemm_parts.cuh"
#include "tensor/tensor.h"

namespace llamita::lessons {

namespace {

constexpr int kKeys = 128;
constexpr int kPanelBytes = 64 * device::kSwizzleRowBytes;  // 64 rows of 64 elements
constexpr int kStore = 1, kTurn = 4;                        // named barriers: + consumer

template <int kDimension>
struct Config {
  static constexpr int kDim = kDimension;
  static constexpr int kConsumers = kDim == 64 ? 3 : 2;
  static constexpr int kStages = kDim == 64 ? 4 : 2;
  static constexpr int kRows = 64 * kConsumers;
  static constexpr int kPanels = kDim / 64;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  // 65,536 registers: 128 x 24 + 256 x 240, or 128 x 32 + 384 x 160.
  static constexpr int kProducerRegisters = kConsumers == 2 ? 24 : 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 240 : 160;
};

struct Params {
  CUtensorMap q;    // (B, T, H, D), box (1, kRows, 1, 64)
  CUtensorMap k;    // (B, T, Hkv, D), box (1, 128, 1, 64)
  CUtensorMap v;    // as k
  CUtensorMap out;  // (B, T, H, D), box (1, 64, 1, 64)
  uint32_t* tickets;
  int tokens;
  int heads;
  int heads_per_kv;
  int all_heads;  // B H
  int set;        // heads of one set
  int row_tiles;
  bool causal;
  float scale_log2;
};

template <class C>
struct Storage {
  uint8_t q[C::kPanels][C::kRows * device::kSwizzleRowBytes];
  uint8_t k[C::kStages][C::kPanels][kKeys * device::kSwizzleRowBytes];
  uint8_t v[C::kStages][C::kPanels][kKeys * device::kSwizzleRowBytes];
  uint8_t out[C::kConsumers][C::kPanels][kPanelBytes];
  device::Ring<C::kStages> k_ring;
  device::Ring<C::kStages> v_ring;
  device::Ring<1> q_ring;
  int tile;  // that Q belongs to; negative: no more
};
static_assert(smem_bytes<Storage<Config<64>>>() <= 232448 && smem_bytes<Storage<Config<128>>>() <= 232448);

struct Tile {
  int batch;
  int head;
  int row0;
  int key_tiles;
};

template <class C>
__device__ __forceinline__ Tile tile_at(const Params& p, int index) {
  const int set = index / (p.set * p.row_tiles);
  const int width = min(p.set, p.all_heads - set * p.set);
  const int inside = index - set * p.set * p.row_tiles;
  const int head = set * p.set + inside % width;
  const int row0 = (p.row_tiles - 1 - inside / width) * C::kRows;
  const int seen = p.causal ? min(p.tokens, row0 + C::kRows) : p.tokens;
  return {head / p.heads, head % p.heads, row0, (seen + kKeys - 1) / kKeys};
}

// One thread. The order of loads is the order in which consumers want them: K(j + 1) before V(j).
template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s) {
  constexpr uint32_t kTileBytes = sizeof(s.k[0]);
  device::RingCursor<C::kStages> at_k, at_v;
  device::RingCursor<1> at_q;
  const auto load = [&](auto& ring, auto& at, auto& stages, const CUtensorMap* map, const Tile& tile, int j) {
    ring.acquire(at, kTileBytes);
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      ptx::tma_load_4d(stages[at.stage()][panel], map,
                       make_int4(tile.batch, j * kKeys, tile.head / p.heads_per_kv, panel * 64),
                       &ring.full[at.stage()]);
    at.advance();
  };
  const int tiles = p.all_heads * p.row_tiles;
  int index = blockIdx.x;
  for (; index < tiles; at_q.advance()) {
    const Tile tile = tile_at<C>(p, index);
    ptx::mbarrier_wait(&s.q_ring.empty[0], at_q.empty_parity());
    s.tile = index;
    ptx::mbarrier_arrive_expect_tx(&s.q_ring.full[0], sizeof(s.q));
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      ptx::tma_load_4d(s.q[panel], &p.q, make_int4(tile.batch, tile.row0, tile.head, panel * 64),
                       &s.q_ring.full[0]);
    load(s.k_ring, at_k, s.k, &p.k, tile, tile.key_tiles - 1);
    for (int j = tile.key_tiles - 1; j > 0; --j) {
      load(s.k_ring, at_k, s.k, &p.k, tile, j - 1);
      load(s.v_ring, at_v, s.v, &p.v, tile, j);
    }
    load(s.v_ring, at_v, s.v, &p.v, tile, 0);
    index = static_cast<int>(gridDim.x + atomicAdd(&p.tickets[0], 1));
  }
  ptx::mbarrier_wait(&s.q_ring.empty[0], at_q.empty_parity());
  s.tile = -1;
  ptx::mbarrier_arrive(&s.q_ring.full[0]);
  // The last block to come here leaves the counters as it found them: nobody draws a ticket any more.
  __threadfence();
  if (atomicInc(&p.tickets[1], gridDim.x - 1) == gridDim.x - 1) p.tickets[0] = 0;
}

__device__ __forceinline__ void mask(float (&s)[kKeys / 2], const Params& p, int row, int key0, int lane) {
  constexpr int kNone[2] = {INT_MIN, INT_MIN};
  int end[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    end[half] = (p.causal ? min(p.tokens, row + lane / 4 + 8 * half + 1) : p.tokens) - key0 - lane % 4 * 2;
  device::mask_scores(s, kNone, end);
}

template <class C>
__device__ __forceinline__ void queue_scores(float (&scores)[kKeys / 2], Storage<C>& s, uint32_t stage,
                                             int consumer) {
#pragma unroll
  for (int panel = 0; panel < C::kPanels; ++panel)
    device::wgmma_k64<__nv_bfloat16, kKeys>(
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
    ptx::Wgmma<__nv_bfloat16, C::kDim>::template rs<1>(
        out, weights[k16], v + k16 * device::kDescriptorK16Transposed, accumulate || k16 > 0);
}

// 64 rows of O: divided by the sums, to shared memory, from there by the copy engine, which leaves out rows
// past the end.
template <class C>
__device__ __forceinline__ void store_rows(const Params& p, Storage<C>& s, float (&out)[C::kDim / 2],
                                           const device::RowState& state, const Tile& tile, int consumer,
                                           int thread) {
  const float inverse[2] = {1 / device::quad_sum(state.total[0]), 1 / device::quad_sum(state.total[1])};
#pragma unroll
  for (int i = 0; i < C::kDim / 2; ++i) out[i] *= inverse[i / 2 % 2];
  if (thread == 0) ptx::tma_store_wait_read<0>();
  ptx::named_barrier_sync(kStore + consumer, 128);
#pragma unroll
  for (int panel = 0; panel < C::kPanels; ++panel)
    device::store_chunk_bf16(s.out[consumer][panel], out, panel, thread);
  ptx::fence_proxy_async_smem();
  ptx::named_barrier_sync(kStore + consumer, 128);
  if (thread == 0) {
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      ptx::tma_store_4d(&p.out, s.out[consumer][panel],
                        make_int4(tile.batch, tile.row0 + consumer * 64, tile.head, panel * 64));
    ptx::tma_store_commit();
  }
}

template <class C>
__device__ __forceinline__ void consume(const Params& p, Storage<C>& s, int consumer) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const device::Turns<C::kConsumers, kTurn> turns(consumer);
  device::RingCursor<C::kStages> at_k, at_v;
  for (device::RingCursor<1> at_q;; at_q.advance()) {
    s.q_ring.wait_full(at_q);
    const int index = s.tile;
    if (index < 0) break;
    const Tile tile = tile_at<C>(p, index);
    const int row = tile.row0 + consumer * 64 + thread / 32 * 16;
    const auto mask_tile = [&](float(&scores)[kKeys / 2], int j) {
      const int end = (j + 1) * kKeys;
      if (end > p.tokens || (p.causal && end > row + 1)) mask(scores, p, row, j * kKeys, lane);
    };
    float scores[kKeys / 2], out[C::kDim / 2], correction[2];
    uint32_t weights[kKeys / 16][4];
    device::RowState state;

    s.k_ring.wait_full(at_k);
    ptx::wgmma_fence();
    queue_scores(scores, s, at_k.stage(), consumer);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(scores);
    if (lane == 0) s.k_ring.release(at_k.stage());
    at_k.advance();
    mask_tile(scores, tile.key_tiles - 1);
    device::online_softmax<0>(scores, state, correction, p.scale_log2);
    device::pack_fragments<__nv_bfloat16>(weights, scores);

    for (int j = tile.key_tiles - 2; j >= 0; --j) {
      s.k_ring.wait_full(at_k);
      turns.take();
      ptx::wgmma_fence();
      queue_scores(scores, s, at_k.stage(), consumer);
      ptx::wgmma_commit();
      s.v_ring.wait_full(at_v);
      ptx::wgmma_fence();
      queue_values<C>(out, weights, s, at_v.stage(), j < tile.key_tiles - 2);
      ptx::wgmma_commit();
      turns.pass_on();
      ptx::wgmma_wait<1>();
      ptx::wgmma_pin(scores);
      if (lane == 0) s.k_ring.release(at_k.stage());
      at_k.advance();
      mask_tile(scores, j);
      device::online_softmax<0>(scores, state, correction, p.scale_log2);
      ptx::wgmma_pin(scores);
      // The compiler moves a wait up to the beginning of its basic block, which before the softmax undoes the
      // overlap: so it stands in branches, which the correction needs anyway.
      const auto values_done = [&] {
        ptx::wgmma_wait<0>();
        ptx::wgmma_pin(out);
        if (lane == 0) s.v_ring.release(at_v.stage());
        at_v.advance();
      };
      if (__any_sync(0xffffffff, correction[0] != 1 || correction[1] != 1)) {
        values_done();
#pragma unroll
        for (int i = 0; i < C::kDim / 2; ++i) out[i] *= correction[i / 2 % 2];
      } else {
        values_done();
      }
      device::pack_fragments<__nv_bfloat16>(weights, scores);
    }
    if (lane == 0) s.q_ring.release(0);  // the tile's number has been read, its last scores are made

    s.v_ring.wait_full(at_v);
    ptx::wgmma_fence();
    queue_values<C>(out, weights, s, at_v.stage(), tile.key_tiles > 1);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(out);
    if (lane == 0) s.v_ring.release(at_v.stage());
    at_v.advance();
    store_rows(p, s, out, state, tile, consumer, thread);
  }
  turns.finish(consumer);
  if (thread == 0) ptx::tma_store_wait<0>();
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) flash3(const __grid_constant__ Params p) {
  auto& s = shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  if (threadIdx.x == 0) {
    s.k_ring.init(C::kConsumers * 4);
    s.v_ring.init(C::kConsumers * 4);
    s.q_ring.init(C::kConsumers * 4);
  }
  __syncthreads();
  if (group == 0) {
    ptx::setmaxnreg_decrease<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C>(p, s);
  } else {
    ptx::setmaxnreg_increase<C::kConsumerRegisters>();
    consume<C>(p, s, group - 1);
  }
}

template <class C>
void run(const Attention& a, const AttentionContext& context) {
  const Device device{DeviceKind::cuda, 0};
  const auto tensor = [&](const __nv_bfloat16* data, int heads) {
    return Tensor(const_cast<__nv_bfloat16*>(data), DType::bf16, {a.batch, a.tokens, heads, a.dim}, device);
  };
  Params p{};
  p.q = cuda::make_tensor_map(tensor(a.q, a.heads), {1, C::kRows, 1, 64});
  p.k = cuda::make_tensor_map(tensor(a.k, a.kv_heads), {1, kKeys, 1, 64});
  p.v = cuda::make_tensor_map(tensor(a.v, a.kv_heads), {1, kKeys, 1, 64});
  p.out = cuda::make_tensor_map(tensor(a.out, a.heads), {1, 64, 1, 64});
  p.tickets = context.tickets;
  p.tokens = a.tokens;
  p.heads = a.heads;
  p.heads_per_kv = a.heads / a.kv_heads;
  p.all_heads = a.batch * a.heads;
  const size_t kv_bytes = size_t(a.tokens) * a.dim * 4;  // of one KV head
  const size_t fit = context.l2_bytes / 2 / kv_bytes * p.heads_per_kv;
  p.set = static_cast<int>(min(fit < 1 ? size_t{1} : fit, size_t(p.all_heads)));
  p.row_tiles = (a.tokens + C::kRows - 1) / C::kRows;
  p.causal = a.causal;
  p.scale_log2 = a.scale * device::kLog2e;
  cuda::launch(flash3<C>,
               {.grid = dim3(min(context.sm_count, p.all_heads * p.row_tiles)),
                .block = dim3(C::kThreads),
                .smem = smem_bytes<Storage<C>>(),
                .stream = context.stream},
               p);
}

}  // namespace

void attention_05_flash3(const Attention& p, const AttentionContext& context) {
  if (p.dim == 64)
    run<Config<64>>(p, context);
  else
    run<Config<128>>(p, context);
}

}  // namespace llamita::lessons
