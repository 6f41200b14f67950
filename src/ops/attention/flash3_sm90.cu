// flash3_sm90: FlashAttention-3's form (Shah et al., arXiv 2407.08608) over the paged cache, for prefill and
// chunks: any mix of sequence lengths, causal over a cached prefix or full, sliding window, grouped query
// heads, split keys for few rows over long contexts. lessons/attention_05_flash3_sm90.cu tells the idea on
// dense tensors; flash3_items.cuh has the work items, flash3_consumer.cuh the consumers, flash3_parts.cuh
// what they do with a tile.
//
// A producer warpgroup loads, consumers of 64 rows multiply. Two overlaps: inside a consumer the scores of
// the next tile are queued before the values of this one, so that its softmax runs under those multiplies;
// between consumers, turns (device/turns.cuh). The next tile may be the first of the next item: the pipeline
// never drains between items, and the rows of a finished item are stored under multiplies: of the scores of
// the next item's second tile, or where registers are short the other consumer's. Only the producer looks for
// items; it publishes them in shared memory with Q.
// Split keys: each part leaves its sums in fp32, and `combine` adds them in ascending order, so the result is
// the same in every run.
//
// Invariants. Rings: every consumer meets every round. Turns: all consumers of a block walk over the same
// tiles, masked or not. Rows of pages behind a sequence's end may hold anything, NaN included: scores of such
// keys are replaced, and such rows of V are zeroed in shared memory before the first multiply reads them.
// Bound by: wgmma and the power limit at D = 128, exponentials next to wgmma at D = 64.
#include <algorithm>
#include <vector>

#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/attention/flash3_consumer.cuh"
#include "ops/attention/variants.h"

namespace llamita {

namespace {

using Cut = device::Flash3Cut;
using Item = device::Flash3Item;
using Params = device::Flash3Params;

constexpr int kHalfOfL2 = 24 << 20;  // bytes, H100 and H200
constexpr int kMaxSplits = 16;

// One thread. Loads stand in the order in which consumers want them: K a tile ahead of V, across the border
// of two items too, and the next item's ticket is drawn a tile before its K is due. What it keeps from turn
// to turn is little, for it has few registers: items stand in shared memory, pages of K are kept for V.
template <class C>
__device__ __forceinline__ void produce(const Params& p, device::Flash3Storage<C>& s) {
  constexpr int kPages = C::kKeys / kPageTokens, kPageBytes = kPageTokens * device::kSwizzleRowBytes;
  struct Tile {
    int page[kPages];
    int kv_head;
  };
  device::Flash3Items items(p, s.walk);
  s.walk.ticket = static_cast<int>(blockIdx.x);
  const auto draw = [&] { s.walk.ticket = static_cast<int>(gridDim.x + atomicAdd(&p.tickets[0], 1)); };
  // The item of the ticket and its rows of Q; false behind the last one.
  const auto publish = [&](Item& item, uint8_t(&q)[C::kPanels][C::kRows * device::kSwizzleRowBytes],
                           uint64_t* full) {
    bool found = items.find(s.walk.ticket, item);
    for (; found && item.tiles.begin == item.tiles.end; found = items.find(s.walk.ticket, item)) draw();
    if (!found) {
      item.sequence = -1;
      ptx::mbarrier_arrive(full);
      return false;
    }
    ptx::mbarrier_arrive_expect_tx(full, sizeof(q));
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel)
      ptx::tma_load_3d(q[panel], &p.q, make_int3(item.token0, item.unit << p.cut.pack_log2, panel * 64),
                       full);
    return true;
  };
  const auto load = [&](auto& ring, auto& stages, const CUtensorMap* map, const Tile& tile,
                        uint32_t iteration) {
    const device::RingCursor<C::kStages> at(iteration);
    const uint32_t stage = at.stage();
    ring.acquire(at, sizeof(stages[0]));
#pragma unroll
    for (int half = 0; half < kPages; ++half)
#pragma unroll
      for (int panel = 0; panel < C::kPanels; ++panel)
        ptx::tma_load_4d(stages[stage][panel] + half * kPageBytes, map,
                         make_int4(tile.page[half], tile.kv_head, 0, panel * 64), &ring.full[stage]);
  };

  Tile k{};
  Item* item = nullptr;
  int j = 0;
  uint32_t iteration = 0;
  for (bool more = true; more; ++iteration) {
    const Tile v = k;
    if (iteration > 0 && j > item->tiles.begin) {
      --j;
    } else {
      const device::RingCursor<C::kItems> at_q(s.walk.published++);
      const uint32_t slot = at_q.stage();
      ptx::mbarrier_wait(&s.q_ring.empty[slot], at_q.empty_parity());
      item = &s.item[slot];
      more = publish(*item, s.q[slot], &s.q_ring.full[slot]);
      j = item->tiles.end - 1;
    }
    if (more) {
      // A tile may end inside its first page: the second half then is the first page again, which is masked.
      const int32_t* table = p.block_table + int64_t{item->sequence} * p.max_blocks;
#pragma unroll
      for (int half = 0; half < kPages; ++half) {
        const int block = j * kPages + half;
        k.page[half] = table[block * kPageTokens < item->kv_len ? block : j * kPages];
      }
      k.kv_head = item->unit / p.cut.units_per_kv;
      load(s.k_ring, s.k, &p.k, k, iteration);
    }
    if (iteration > 0) load(s.v_ring, s.v, &p.v, v, iteration - 1);
    if (more && j == item->tiles.begin) draw();
  }
  // The last block to come here leaves the counters as it found them: nobody draws a ticket any more.
  __threadfence();
  if (atomicInc(&p.tickets[1], gridDim.x - 1) == gridDim.x - 1) p.tickets[0] = 0;
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) flash3(const __grid_constant__ Params p) {
  auto& s = device::shared_storage<device::Flash3Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  if (threadIdx.x == 0) {
    s.k_ring.init(C::kConsumers * 4);
    s.v_ring.init(C::kConsumers * 4);
    s.q_ring.init(C::kConsumers * 4);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_prefetch_map(&p.q);
    ptx::tma_prefetch_map(&p.k);
    ptx::tma_prefetch_map(&p.v);
    ptx::tma_prefetch_map(&p.out);
  }
  // At once: each block of the successor takes the place of one that has no more items.
  ptx::grid_launch_dependents();
  ptx::grid_dependency_wait();
  if (group == 0) {
    ptx::setmaxnreg_decrease<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C>(p, s);
  } else {
    ptx::setmaxnreg_increase<C::kConsumerRegisters>();
    device::Flash3Consumer<C>(p, s, group - 1).run();
  }
}

// One warp a row of one head: the parts' sums in ascending order of their keys.
template <class C>
__global__ void __launch_bounds__(128) combine(const __grid_constant__ Params p) {
  constexpr int kPairs = (C::kDim + 63) / 64;  // of elements, a lane: pairs lane, lane + 32, ...
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
  const int first = (token - q_begin) / tokens * tokens, position0 = p.kv_len[low] - q_len + first;
  const device::KeyTiles tiles =
      device::key_tiles(p.cut, position0, position0 + min(tokens, q_len - first) - 1, p.kv_len[low]);
  const int parts = min(p.cut.splits, tiles.end - tiles.begin);

  const int64_t stride = int64_t{p.tokens} * p.cut.heads;
  float highest = -INFINITY;
  for (int part = 0; part < parts; ++part) highest = fmaxf(highest, p.states[part * stride + warp].x);
  float total = 0;
  float2 sum[kPairs] = {};
  for (int part = 0; part < parts; ++part) {
    const float2 state = p.states[part * stride + warp];
    const float weight = ptx::exp2_approx((state.x - highest) * p.scale_log2);
    if (state.y == 0) continue;  // the part has none of the row's keys
    total += weight * state.y;
    const auto* from = reinterpret_cast<const float2*>(p.partial + (part * stride + warp) * C::kDim);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      if (lane + 32 * i >= C::kDim / 2) continue;
      sum[i].x += weight * from[lane + 32 * i].x;
      sum[i].y += weight * from[lane + 32 * i].y;
    }
  }
  auto* to = reinterpret_cast<uint32_t*>(static_cast<typename C::Element*>(p.out_data) +
                                         token * p.out_stride + head * C::kDim);
#pragma unroll
  for (int i = 0; i < kPairs; ++i)
    if (lane + 32 * i < C::kDim / 2)
      to[lane + 32 * i] = device::pack_pair<typename C::Element>(sum[i].x / total, sum[i].y / total);
}

// f.template operator()<Element, D>() for what the kernel is built for.
template <class F>
auto with_config(const AttentionArgs& args, F&& f) {
  const auto with_dim = [&]<class Element>() {
    switch (args.q.dim(2)) {
      case 64: return f.template operator()<device::Flash3Config<Element, 64>>();
      case 96: return f.template operator()<device::Flash3Config<Element, 96>>();
      case 256: return f.template operator()<device::Flash3Config<Element, 256>>();
      default: return f.template operator()<device::Flash3Config<Element, 128>>();
    }
  };
  return args.q.dtype() == DType::bf16 ? with_dim.template operator()<__nv_bfloat16>()
                                       : with_dim.template operator()<__half>();
}

template <class C>
Cut cut_for(const AttentionArgs& args, const Caps& caps) {
  const auto heads = static_cast<int>(args.q.dim(1)), kv_heads = static_cast<int>(args.k_cache.dim(1));
  const int group = heads / kv_heads;
  Cut cut{};
  cut.heads = heads;
  cut.rows = C::kRows;
  cut.keys = C::kKeys;
  while ((1 << cut.pack_log2) < group) ++cut.pack_log2;
  if ((1 << cut.pack_log2) != group || group > 64) cut.pack_log2 = 0;
  cut.units_per_kv = group >> cut.pack_log2;
  cut.window = args.window;
  cut.causal = args.causal;

  // Items of the step from the plan; where it has bounds alone, as if every sequence had as many rows.
  const auto items_of = [&](int rows) { return (rows + cut.tokens() - 1) / cut.tokens() * cut.units(); };
  std::vector<int> rows(static_cast<size_t>(args.kv_len.dim(0)), 0);
  if (args.plan->items.empty()) std::fill(rows.begin(), rows.end(), args.plan->max_q_len);
  for (const AttentionPlan::Item& item : args.plan->items)
    rows[static_cast<size_t>(item.sequence)] += item.q_end - item.q_begin;
  int items = 0;
  for (const int count : rows) items += items_of(count);
  int tiles = (args.plan->max_kv_len + C::kKeys - 1) / C::kKeys;
  if (args.window > 0) tiles = std::min(tiles, (args.window + cut.tokens()) / C::kKeys + 2);
  // As many parts as SMs are left over, of four tiles at the least.
  cut.splits = std::clamp(std::min(caps.sm_count / std::max(items, 1), tiles / 4), 1, kMaxSplits);
  return cut;
}

template <class C>
void launch(const AttentionArgs& args, Context& context) {
  static_assert(device::smem_bytes<device::Flash3Storage<C>>() <= 232448,
                "the shared memory of a block on sm_90");
  const int64_t T = args.q.dim(0), H = args.q.dim(1);
  Params p{};
  p.cut = cut_for<C>(args, context.caps());
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
  p.scale_log2 = args.scale * device::kLog2e;
  p.kv_fit = kHalfOfL2 / (C::kDim * 4);
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
                .smem = device::smem_bytes<device::Flash3Storage<C>>(),
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
  return caps.device == DeviceKind::cuda && caps.arch == 90 &&
         (dim == 64 || dim == 96 || dim == 128 || dim == 256) &&
         (dtype == DType::bf16 || dtype == DType::f16) && args.k_cache.dtype() == dtype &&
         args.out.dtype() == dtype && args.q.stride(0) % 8 == 0 && args.out.stride(0) % 8 == 0;
}

int64_t attention_flash3_scratch_bytes(const AttentionArgs& args, const Caps& caps) {
  const int splits = with_config(args, [&]<class C>() { return cut_for<C>(args, caps).splits; });
  if (splits == 1) return 0;
  // Two tensors, each at a 64-byte border.
  return splits * args.q.dim(0) * args.q.dim(1) * (args.q.dim(2) + 2) * 4 + 128;
}

void attention_flash3_sm90(const AttentionArgs& args, Context& context) {
  if (args.q.dim(0) == 0) return;
  with_config(args, [&]<class C>() { launch<C>(args, context); });
}

}  // namespace llamita
