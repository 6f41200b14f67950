// cluster_select: a cluster of blocks a row, or a block where rows are many, and the logits read once.
//
// The only pass over the logits keeps of each chunk (16 tokens of a lane) the best logit and, for rows that
// sample, its mass, a sum of approximate 2^x. The blocks tell each other the bests of 512 groups of tokens.
// Then all know the best token, and with it which tokens are too light for any filter to need them: for
// top-k, what is below the k-th best group; for top-p, what is lighter than a V-th of what is spared, or
// below the 128th group. The others, seldom more than a hundred, are taken from the few chunks that have one
// and gathered in the first block, which chooses among them alone (select_few.cuh).
//
// top-p's total takes weights of the list as they are and the light rest within its bounds. When these leave
// open what is kept, or the list is too long, all blocks go through the whole vocabulary with exact weights
// (select_walk.cuh). Sums are integers, and the choice is the CPU's.
//
// Shared memory of a block: Shared | chunks | lists of all blocks (used in the first).
// Bound by latency for a few rows, by memory for many.
#include <algorithm>
#include <atomic>
#include <cstddef>

#include "ops/cuda/launch.cuh"
#include "ops/sampling/philox.h"
#include "ops/sampling/select_few.cuh"
#include "ops/sampling/select_row.cuh"
#include "ops/sampling/select_walk.cuh"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

using select::Cut;
using select::kMostBlocks;
using select::kThreads;
using select::kWarps;
using select::Parts;
using select::Range;
using select::RowTask;
using select::SelectParams;
using select::Shared;
using select::Team;

__device__ __forceinline__ bool broken(uint32_t key) {
  return key >= select::kInfinityKey || key <= select::kMinusInfinityKey;
}

// Each warp tells the first block its best token: the largest key, of equals the lowest id.
__device__ __forceinline__ void choose_best(const RowTask& task, const Team& team, const select::Best& own) {
  Shared& s = task.parts.s;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t own_key = select::key_of(own.logit), key = __reduce_max_sync(0xffffffff, own_key);
  const uint32_t before_end = own_key == key ? static_cast<uint32_t>(INT32_MAX - own.token) : 0;
  const uint64_t best = uint64_t{key} << 32 | __reduce_max_sync(0xffffffff, before_end);
  if (lane == 0) team.send(s.bests[team.rank * kWarps + warp], best, s.best_full, 0);
  if (team.rank > 0) return;
  const int words = team.blocks * kWarps;
  if (threadIdx.x == 0) team.expect(s.best_full, words, 0);
  team.receive(s.best_full);
  if (warp > 0) return;
  uint64_t all = 0;
  for (int i = lane; i < words; i += 32) all = max(all, s.bests[i]);
  all = select::warp_combine<select::Larger>(all);
  if (lane == 0)
    task.emit(broken(static_cast<uint32_t>(all >> 32)) ? -1 : INT32_MAX - static_cast<int32_t>(all));
}

// All blocks tell all the bests of groups of lanes, 512 in all. Gives the thread's one and the best of all.
__device__ __forceinline__ uint32_t exchange_bests(Shared& s, const Team& team, uint32_t key,
                                                   uint32_t& best_key) {
  const int thread = static_cast<int>(threadIdx.x), log2_blocks = team.log2_blocks();
  key = select::warp_combine<select::Larger>(key, team.blocks);
  // A group has as many lanes as there are blocks: each tells one.
  const int place = (team.rank * kThreads + thread) >> log2_blocks;
  team.send(s.bests[place], key, s.best_full, thread & (team.blocks - 1));
  if (thread == 0) team.expect(s.best_full, kThreads, team.rank);
  team.receive(s.best_full);
  const auto group = static_cast<uint32_t>(s.bests[thread]);
  const uint32_t warp_best = __reduce_max_sync(0xffffffff, group);
  if (thread % 32 == 0) s.keys[thread / 32] = warp_best;
  __syncthreads();
  best_key = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) best_key = max(best_key, s.keys[i]);
  return group;
}

__device__ __forceinline__ void choose(RowTask& task, Team& team) {
  Shared& s = task.parts.s;
  const bool greedy = task.row.temperature == 0.0f;
  task.scale.scale = greedy ? 0.0f : __fdiv_rn(kLog2E, task.row.temperature);
  float4 first[4];
  select::load_quad(task.p, task.logits, select::first_base(task.own), task.own.end, first);
  if (!greedy && threadIdx.x == 0) s.random = random_bits(task.row.seed, task.row.choice, task.row.position);
  const select::Best own =
      select::summarise(task.p, task.logits, task.own, task.scale.scale, task.parts, first);
  if (greedy) return choose_best(task, team, own);
  uint32_t best_key;
  const uint32_t group = exchange_bests(s, team, select::key_of(own.logit), best_key);
  if (broken(best_key)) {
    if (team.rank == 0 && threadIdx.x == 0) task.emit(-1);
    return;
  }
  task.scale.best = select::logit_of(best_key);
  const uint32_t least = select::list_bound(task, task.scale.exponent(select::logit_of(group)));
  if (least > 0) {
    select::send_list(task, team, least);
    if (team.rank == 0) {
      if (select::choose_from_list(task, team)) return;
      team.tell(0);
    } else if (team.hear() != 0) {
      return;
    }
  }
  // Copies have addresses; the originals can stay in registers.
  const RowTask all = task;
  Team everybody = team;
  select::choose_from_all(all, everybody);
}

__global__ void __launch_bounds__(kThreads, 2) cluster_select(const __grid_constant__ SelectParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  const Parts parts = select::parts_of(smem, p.cut.chunks);
  Shared& s = parts.s;
  device::start_successor();
  Team team(s.team, p.cut.blocks);
  team.open(s.best_full, 1);
  team.open(s.list_full, p.cut.blocks);
  const unsigned index = blockIdx.y;
  constexpr int kRowWords = sizeof(DeviceSamplingRow) / 8;
  if (threadIdx.x < kRowWords)  // the host wrote it before any kernel of the step ran
    reinterpret_cast<uint64_t*>(&s.row)[threadIdx.x] =
        reinterpret_cast<const uint64_t*>(p.rows + index)[threadIdx.x];
  if (threadIdx.x == 0) {
    s.chunk_count = s.count = 0;
    s.unclear = false;
  }
  float* logits = p.logits + index * p.stride;
  const int begin = team.rank * p.cut.block_tokens;
  const Range own{min(begin, p.vocab), min(begin + p.cut.block_tokens, p.vocab)};
  if (p.cut.blocks == 1) {
    // Of many rows few begin before the predecessor is done: the first tokens come while the parameters do.
    device::wait_for_predecessor();
    select::prefetch_first(logits, own);
  }
  __syncthreads();
  team.announce();
  const DeviceSamplingRow& row = s.row;
  device::wait_for_predecessor();
  team.meet();
  if (row.bias_begin < row.bias_end || row.seen_begin < row.seen_end || row.late >= 0)
    select::adjust(p, row, logits, own);
  RowTask task{.p = p,
               .row = row,
               .parts = parts,
               .logits = logits,
               .own = own,
               .index = index,
               .scale = {},
               .has_top_k = row.top_k > 0 && row.top_k < p.vocab,
               .has_top_p = row.top_p < 1.0f};
  choose(task, team);
}

Cut cut_of(int blocks, int vocab) {
  const auto up = [](int a, int b) { return (a + b - 1) / b; };
  Cut cut{};
  cut.blocks = blocks;
  cut.block_tokens = up(up(vocab, blocks), select::kRound) * select::kRound;
  const int quads = up(cut.block_tokens, select::kStride);
  cut.chunk_quads = up(quads, select::kMostChunks);
  cut.chunks = up(quads, cut.chunk_quads);
  return cut;
}

cuda::LaunchConfig config_of(const Cut& cut, int64_t rows, const Context& context) {
  return {.grid = dim3(static_cast<unsigned>(cut.blocks), static_cast<unsigned>(rows)),
          .block = dim3(kThreads),
          .smem = select::smem_of(cut),
          .stream = context.stream().get(),
          .cluster = cut.blocks,
          .pdl = has_pdl(context.caps())};
}

// Clusters of 16 find room in few places of a card, in none of a part of one.
bool sixteen_blocks_fit(const Cut& cut, int64_t rows, const Context& context) {
  static std::atomic<int> known{-1};
  int clusters = known;
  if (clusters < 0) known = clusters = cuda::active_clusters(cluster_select, config_of(cut, rows, context));
  return rows <= clusters;
}

// As many blocks as the card has room for: few rows have it to themselves.
Cut cut_for(int64_t rows, int vocab, const Context& context) {
  const Caps& caps = context.caps();
  int blocks = 1;
  while (caps.arch / 10 == 9 && blocks < kMostBlocks && 2 * blocks * rows <= caps.sm_count) blocks *= 2;
  const Cut cut = cut_of(blocks, vocab);
  return blocks == kMostBlocks && !sixteen_blocks_fit(cut, rows, context) ? cut_of(blocks / 2, vocab) : cut;
}

}  // namespace

void device_sampling_cluster_select(const DeviceSamplingArgs& args, Context& context) {
  const int64_t R = args.logits.dim(0), stride = args.logits.stride(0);
  if (R == 0) return;
  auto* logits = args.logits.ptr<float>();
  const Cut cut = cut_for(R, args.vocab_limit, context);
  const SelectParams params{.logits = logits,
                            .stride = stride,
                            .vocab = args.vocab_limit,
                            .aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0 && stride % 4 == 0,
                            .rows = static_cast<const DeviceSamplingRow*>(args.rows.data()),
                            .entries = data_or_null<const DeviceTokenEntry>(args.entries),
                            .token_ids = data_or_null<const int32_t>(args.token_ids),
                            .tokens = args.tokens.ptr<int32_t>(),
                            .cut = cut};
  cuda::launch(cluster_select, config_of(cut, R, context), params);
}

}  // namespace llamita
