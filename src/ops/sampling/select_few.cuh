// The choice from a list of few tokens: those that a row's filters may leave, in the first block's memory.
//
// No order is made. Each token is compared with all others: how many are better, and what they weigh
// together, says what top-k and top-p make of it; what the kept ones of lower id weigh together says whether
// the random number meets it. n^2 comparisons by the block's 512 threads, of up to 256 tokens by half of
// them, with three barriers: half a microsecond for a hundred tokens, three for 512.
#pragma once

#include "ops/sampling/select_row.cuh"

namespace llamita::select {

// Groups of chunks that are wanted on the list for top-p: top-p seldom leaves more tokens, and the list is
// then seldom over 200.
inline constexpr int kTopPGroups = 128;
// Of the sums of approximate masses: far more than exp2_approx, the rounding of exponents up to 40 and sums
// in float are off.
inline constexpr double kMassError = 0x1p-12;

// No filter needs a token with a lower exponent, whatever the logits are.
__device__ __forceinline__ uint32_t least_exponent(const RowTask& task) {
  int power = 0;
  if (task.has_top_k) return 1;
  if (task.has_top_p) {
    // What V tokens weigh together must be less than what is spared, (1 - p) * 2^40 at the least.
    const double spared = (1.0 - static_cast<double>(task.row.top_p)) * (1.0 - 0x1p-20);
    power = kWeightBits + (__double2hiint(spared) >> 20) - 1023 - (32 - __clz(task.p.vocab));
  } else if (task.row.min_p > 0) {
    power = 63 - __clzll(static_cast<long long>(weight_to_keep(task.row.min_p)));
  }
  return max(static_cast<uint32_t>(max(power, 0)) << 24, 1u);
}

// Which exponents belong on the list; 0: a list would be too long. `exponent`: each thread has one of 512
// groups of the row's tokens, and the best token's exponent of it. The same in all blocks.
__device__ __forceinline__ uint32_t list_bound(const RowTask& task, uint32_t exponent) {
  uint32_t least = least_exponent(task);
  const int wanted = task.has_top_k ? task.row.top_k : task.has_top_p ? kTopPGroups : kThreads;
  if (wanted > kListRoom) return 0;
  const int groups = __syncthreads_count(exponent >= least);
  if (groups >= wanted) {
    if (!task.has_top_k && !task.has_top_p) return 0;
    // Not below the k-th best group lie k tokens. For top-p it is a guess, which is checked.
    uint32_t bound = 0;
    for (uint32_t step = 1u << 29; step >= 1u << 21; step /= 2)
      if (__syncthreads_count(exponent >= bound + step) >= wanted) bound += step;
    least = max(least, bound);
  }
  return least;
}

// Sends the block's tokens with at least this exponent to the first block's list, in no order, and the mass
// of the others. The chunks that have one are written down first: then four lanes read each, all chunks at
// once, where the lanes that own them would wait for memory once a chunk.
__device__ __forceinline__ void send_list(const RowTask& task, const Team& team, uint32_t least) {
  constexpr int kBatch = 4;    // of chunks under way from shared memory
  constexpr int kReaders = 4;  // lanes of a chunk: each of its four runs of four tokens
  const Parts& parts = task.parts;
  Shared& s = parts.s;
  const Scale& scale = task.scale;
  const Cut& cut = task.p.cut;
  uint64_t* list = parts.lists + team.rank * kListRoom;
  const int thread = static_cast<int>(threadIdx.x);
  // Exponents of at least `least` are those of distances below this, rounded up to a float; NaN, the best
  // token's where the scale is infinite, is among them.
  const float reach = __uint2float_ru(kMostExponent - least + 1) * 0x1p-24f;
  float light = 0;
  for (int first = 0; first < cut.chunks; first += kBatch) {
    float best[kBatch], mass[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int chunk = (first + i) * kThreads + thread;
      const bool there = first + i < cut.chunks;
      best[i] = there ? parts.chunk_best[chunk] : -INFINITY;
      mass[i] = there ? parts.chunk_mass[chunk] : 0;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float distance = scale.distance(best[i]);
      if (distance >= reach) {
        light += mass[i] * ptx::exp2_approx(-distance);
      } else {
        const int at = atomicAdd(&s.chunk_count, 1);
        if (at < kListRoom) s.chunks[at] = static_cast<uint16_t>((first + i) * kThreads + thread);
      }
    }
  }
  __syncthreads();
  const int chunks = min(s.chunk_count, kListRoom);
  for (int i = thread / kReaders; i < chunks; i += kThreads / kReaders) {
    const int chunk = s.chunks[i], owner = chunk % kThreads;
    int token = task.own.begin + owner / 32 * kQuad + chunk / kThreads * cut.chunk_quads * kStride +
                thread % kReaders * kRound + owner % 32 * 4;
    for (int quad = 0; quad < cut.chunk_quads; ++quad, token += kStride) {
      const float4 x = load_four(task.p, task.logits, token, task.own.end);
      const float logits[4] = {x.x, x.y, x.z, x.w};
      bool listed[4];
      int count = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float distance = scale.distance(logits[j]);
        listed[j] = !(distance >= reach);
        count += listed[j];
        light += listed[j] ? 0 : ptx::exp2_approx(-distance);
      }
      if (count == 0) continue;
      int at = atomicAdd(&s.count, count);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!listed[j]) continue;
        if (at < kListRoom)
          team.send(list[at], uint64_t{static_cast<uint32_t>(token + j)} << 32 | __float_as_uint(logits[j]),
                    s.list_full, 0);
        ++at;
      }
    }
  }
  light = warp_combine<Add>(light);
  if (thread % 32 == 0) s.light[thread / 32] = light;
  __syncthreads();
  if (thread == 0) {
    double all = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) all += static_cast<double>(s.light[i]);
    // Each chunk has a token of the list: if there was no room for all chunks, the list is full.
    const int count = s.count + max(s.chunk_count - kListRoom, 0);
    team.send(s.heads[team.rank].count, static_cast<uint64_t>(count), s.list_full, 0);
    team.send(s.heads[team.rank].light, static_cast<uint64_t>(__double_as_longlong(all)), s.list_full, 0);
    team.expect(s.list_full, 2 + min(count, kListRoom), 0);
  }
}

// How the threads share n x n comparisons: groups of adjacent lanes have an item each. Half of the threads
// are enough for 256 items: what each warp does for itself costs more than a few comparisons in turn.
struct Pairs {
  int log2_lanes, item, part, rounds;
  bool works;  // the warp has an item
  __device__ __forceinline__ explicit Pairs(int n) {
    const int log2_items = 32 - __clz(n - 1), thread = static_cast<int>(threadIdx.x);
    log2_lanes = min(max(8 - log2_items, 0), 4);
    item = thread >> log2_lanes;
    part = thread & ((1 << log2_lanes) - 1);
    rounds = (n + (1 << log2_lanes) - 1) >> log2_lanes;
    works = (thread & ~31) >> log2_lanes < n;
  }
  // f(j) for the lane's part of 0 .. n - 1, where it works.
  template <class F>
  __device__ __forceinline__ void for_others(int n, const F& f) const {
#pragma unroll 4
    for (int i = 0; i < rounds; ++i) {
      const int j = (i << log2_lanes) + part;
      if (j < n) f(j);
    }
  }
  template <class T>
  __device__ __forceinline__ void add_up(T& x) const {
#pragma unroll 1
    for (int step = 1 << log2_lanes >> 1; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffff, x, step);
  }
};

// In the first block, once the lists are in: makes items of them, in no order. How many, or more than there
// is room for.
__device__ __forceinline__ int gather_items(const RowTask& task, const Team& team, double& light) {
  Shared& s = task.parts.s;
  team.receive(s.list_full);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  // Each lane has a block's head, each block as many threads as another.
  const bool has_block = lane < team.blocks;
  const int count = has_block ? static_cast<int>(s.heads[lane].count) : 0;
  light = has_block ? __longlong_as_double(static_cast<long long>(s.heads[lane].light)) : 0;
  int end = count;
#pragma unroll 1
  for (int step = 1; step < team.blocks; step *= 2) {
    const int before = __shfl_up_sync(0xffffffff, end, step);
    end += lane >= step ? before : 0;
  }
#pragma unroll 1
  for (int step = team.blocks / 2; step > 0; step /= 2) light += __shfl_xor_sync(0xffffffff, light, step);
  const int log2_threads = kLog2Threads - team.log2_blocks(), block = thread >> log2_threads;
  const int n = __shfl_sync(0xffffffff, end, team.blocks - 1);
  const int first = __shfl_sync(0xffffffff, end - count, block), own = __shfl_sync(0xffffffff, count, block);
  light = __shfl_sync(0xffffffff, light, 0);
  if (n > kListRoom) return n;
  for (int i = thread & ((1 << log2_threads) - 1); i < own; i += 1 << log2_threads) {
    const uint64_t entry = task.parts.lists[block * kListRoom + i];
    const float logit = __uint_as_float(static_cast<uint32_t>(entry));
    s.items[first + i] = {uint64_t{key_of(logit)} << 32 | static_cast<uint32_t>(~(entry >> 32)),
                          weight_of_exponent(task.scale.exponent(logit))};
  }
  return n;
}

// In the first block: chooses from the lists. False if that is not certain to be right.
__device__ __forceinline__ bool choose_from_list(const RowTask& task, const Team& team) {
  Shared& s = task.parts.s;
  const DeviceSamplingRow& row = task.row;
  double light;
  const int n = gather_items(task, team, light);
  if (n > kListRoom) return false;
  __syncthreads();
  const Pairs pairs(n);
  const int most_tokens = task.has_top_k ? min(row.top_k, n) : n;
  Item mine{};
  int rank = 0;
  uint64_t above = 0;
  bool counts = false;
  if (pairs.works) {
    mine = s.items[min(pairs.item, n - 1)];
    pairs.for_others(n, [&](int j) {
      const Item other = s.items[j];
      if (other.order > mine.order) {
        ++rank;
        above += other.weight;
      }
    });
    pairs.add_up(rank);
    pairs.add_up(above);
    counts = pairs.item < n && pairs.part == 0 && rank < most_tokens;
    if (counts && rank == most_tokens - 1) s.total = above + mine.weight;
  }
  __syncthreads();
  bool keeps = false;
  if (pairs.works) {
    // What top-p keeps depends on the sum of all weights, of which the light part lies between bounds.
    uint64_t wanted = ~uint64_t{0}, most_wanted = wanted;
    bool clear = true;
    if (task.has_top_p) {
      uint64_t least_light = 0, most_light = 0;
      if (!task.has_top_k) {
        constexpr auto kUnit = static_cast<double>(kFullWeight);
        const double most = light * (1.0 + kMassError) * kUnit + task.p.vocab;
        clear = most < 0x1p62;  // NaN is not
        least_light = static_cast<uint64_t>(max(light * (1.0 - kMassError) * kUnit - task.p.vocab, 0.0));
        most_light = clear ? static_cast<uint64_t>(most) + 1 : 0;
      }
      wanted = mass_to_keep(row.top_p, s.total + least_light);
      most_wanted = mass_to_keep(row.top_p, s.total + most_light);
      clear = clear && most_wanted <= s.total;
    }
    keeps = counts && above < wanted;
    if (!clear || (counts && keeps != (above < most_wanted))) s.unclear = true;
    if (keeps) s.kept[rank] = {mine.order, mine.weight >= weight_to_keep(row.min_p) ? mine.weight : 0};
  }
  const int left = __syncthreads_count(keeps);
  if (s.unclear) return false;
  team.tell(1);
  const Pairs order(left);
  if (!order.works) return true;
  const Item candidate = s.kept[min(order.item, left - 1)];
  uint64_t before = 0, total = 0;
  order.for_others(left, [&](int j) {
    const Item other = s.kept[j];
    total += other.weight;
    // The low word grows with lower ids.
    if (static_cast<uint32_t>(other.order) > static_cast<uint32_t>(candidate.order)) before += other.weight;
  });
  order.add_up(total);
  order.add_up(before);
  const uint64_t drawn = draw_below(total, s.random);
  if (order.item < left && order.part == 0 && drawn >= before && drawn - before < candidate.weight)
    task.emit(static_cast<int32_t>(~static_cast<uint32_t>(candidate.order)));
  return true;
}

}  // namespace llamita::select
