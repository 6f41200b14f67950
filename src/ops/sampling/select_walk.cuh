// The choice from the whole vocabulary by all blocks of a row, when the filters leave much of it or there are
// none.
//
// top-k and top-p ask in which exponent (integer_weight.h), largest first, a running sum of counts or weights
// reaches a given value: radix descent, eleven bits a pass over the logits, sums in shared memory. The draw
// asks the same of tokens in order: sums of blocks, then of warps, then of threads. Sums are integers, so
// nothing depends on their order.
#pragma once

#include "ops/sampling/select_row.cuh"

namespace llamita::select {

// What tokens are ordered by, largest first.
enum class By { exponent, key, id };
constexpr int bits_of(By by) { return by == By::exponent ? 30 : by == By::key ? 32 : 24; }
inline constexpr auto kIds = static_cast<uint32_t>(kMaxVocab);

// Where a running sum is to be found: at `count` or, with top-p, at its share of the sum of all weights.
struct Goal {
  uint64_t count;
  float top_p;  // 0: counts tokens
  constexpr uint64_t of(uint64_t total) const {
    const uint64_t wanted = top_p > 0 ? mass_to_keep(top_p, total) : count;
    return wanted < total ? wanted : total;
  }
};

// The tokens that filters left.
struct Kept {
  uint32_t exponent = 0;  // those above it, and with it
  uint32_t key = ~0u;     // the logits above this one, and with it
  int32_t token = -1;     // the ids up to this one

  __device__ __forceinline__ bool has(uint32_t e, float logit, int t) const {
    if (e != exponent) return e > exponent;
    const uint32_t k = key_of(logit);
    return k != key ? k > key : t <= token;
  }
};

// The sum of x over all threads before this one, and of all in `total`.
__device__ __forceinline__ uint64_t sum_before(uint64_t x, uint64_t* scan, uint64_t& total) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  uint64_t sum = x;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t before = __shfl_up_sync(0xffffffff, sum, step);
    if (lane >= step) sum += before;
  }
  if (lane == 31) scan[warp] = sum;
  __syncthreads();
  uint64_t warps_before = 0;
  total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) warps_before += scan[i];
    total += scan[i];
  }
  return warps_before + sum - x;
}

// 64 bits of a sum by additions of 32; true carries, in whatever order they come.
__device__ __forceinline__ void add_to_bin(uint64_t* bin, uint64_t mass) {
  auto* words = reinterpret_cast<uint32_t*>(bin);
  const auto low = static_cast<uint32_t>(mass);
  const uint32_t old = atomicAdd(words, low);
  const uint32_t high = static_cast<uint32_t>(mass >> 32) + (old + low < old ? 1u : 0u);
  if (high != 0) atomicAdd(words + 1, high);
}

__device__ __forceinline__ void empty_bins(Shared& s) {
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) s.bins[i] = 0;
}

// The bins of all blocks: each block adds up its share of them, largest first. Which is the bin where the sum
// from the largest on, `above` and these, reaches `wanted`, if that is not 0, or else the goal? Leaves all
// bins empty.
__device__ __forceinline__ Border find_bin(Shared& s, Team& team, const Goal& goal, uint64_t& wanted,
                                           uint64_t above) {
  constexpr int kMost = kBins / kThreads;
  const int share = kBins >> team.log2_blocks();
  const int each = max(share / kThreads, 1);
  const int first = static_cast<int>(threadIdx.x) * each;
  const int top = kBins - 1 - team.rank * share - first;
  uint64_t own[kMost] = {}, sum = 0;
  team.sync();
  if (threadIdx.x == 0) s.border = {};
  if (first < share) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i >= each) break;
      own[i] = team.sum_of(&s.bins[top - i]);
      sum += own[i];
    }
  }
  uint64_t total;
  uint64_t before = sum_before(sum, s.scan, total);
  if (team.blocks > 1) {
    team.exchange<1>({total});
    total = 0;
#pragma unroll 1
    for (int block = 0; block < team.blocks; ++block) {
      if (block < team.rank) before += team.received(block);
      total += team.received(block);
    }
  }
  if (wanted == 0) wanted = goal.of(total);
  const uint64_t target = wanted - above;
  if (before < target && target <= before + sum) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (before < target && target <= before + own[i])
        s.border = {static_cast<uint32_t>(top - i), before, own[i], 0};
      before += own[i];
    }
  }
  empty_bins(s);  // all have read them: a barrier lies between, or the exchange
  __syncthreads();
  Border border = s.border;
  border.total = total;
  if (team.blocks > 1) {
    // One block has found it, the others have zeros.
    team.exchange<3>({border.value, border.above, border.mass});
    border.value = static_cast<uint32_t>(team.received_sum(0));
    border.above = team.received_sum(1);
    border.mass = team.received_sum(2);
  }
  return border;
}

// Copies of what functions of their own are given lie in registers, and say where it points.
__device__ __forceinline__ RowTask copy_of(const RowTask& given) {
  const RowTask task = given;
  __builtin_assume(__isShared(&task.parts.s));
  __builtin_assume(__isShared(&task.row));
  __builtin_assume(__isGlobal(task.logits));
  return task;
}

struct Walk {
  const RowTask& task;

  // Each warp's tokens are one stretch here, one after the other.
  __device__ __forceinline__ Range stretch(int warp) const {
    const Range own = task.own;
    const int each = (own.end - own.begin + kWarps * kRound - 1) / (kWarps * kRound) * kRound;
    const int begin = min(own.begin + warp * each, own.end);
    return {begin, min(begin + each, own.end)};
  }

  // f(logit, token) for the lane's tokens; -infinity for tokens that are none. Loads run three rounds ahead.
  template <class F>
  __device__ __forceinline__ void visit(const F& f) const {
    const Range own = stretch(static_cast<int>(threadIdx.x) / 32);
    const auto load = [&](int base) { return load_round(task.p, task.logits, base, own.end); };
    float4 next[3] = {load(own.begin), load(own.begin + kRound), load(own.begin + 2 * kRound)};
#pragma unroll 1
    for (int base = own.begin; base < own.end; base += kRound) {
      const float4 x = next[0];
      next[0] = next[1];
      next[1] = next[2];
      next[2] = load(base + 3 * kRound);
      const int token = base + static_cast<int>(threadIdx.x) % 32 * 4;
      f(x.x, token);
      f(x.y, token + 1);
      f(x.z, token + 2);
      f(x.w, token + 3);
    }
  }

  // In which value, largest first, does the running sum over the tokens that are `kept` reach the goal? With
  // By::key only tokens of the exponent `among`.exponent count, with By::id those of its key too.
  __device__ __noinline__ Border descend(Team& team, const Kept& kept, By by, const Kept& among,
                                         const Goal& goal) const {
    const RowTask copy = copy_of(task);
    return Walk{copy}.find(team, kept, by, among, goal);
  }
  __device__ __forceinline__ Border find(Team& team, const Kept kept, By by, const Kept among,
                                         const Goal goal) const {
    Shared& s = task.parts.s;
    uint32_t prefix = 0;
    uint64_t wanted = 0;
    Border at{};
#pragma unroll 1
    for (int shift = bits_of(by), digit = 0; shift > 0; ++digit) {
      const int next = max(shift - kLog2Bins, 0);
      visit([&](float logit, int token) {
        const uint32_t exponent = task.scale.exponent(logit);
        if (exponent == 0 || (by != By::exponent && exponent != among.exponent)) return;
        uint32_t value = exponent;
        if (by != By::exponent) value = key_of(logit);
        if (by == By::id) {
          if (value != among.key) return;
          value = kIds - static_cast<uint32_t>(token);
        }
        if ((digit > 0 && value >> shift != prefix) || !kept.has(exponent, logit, token)) return;
        add_to_bin(&s.bins[value >> next & ((1u << (shift - next)) - 1)],
                   goal.top_p > 0 ? weight_of_exponent(exponent) : 1);
      });
      const Border found = find_bin(s, team, goal, wanted, at.above);
      prefix = prefix << (shift - next) | found.value;
      if (digit == 0) at.total = found.total;
      at.above += found.above;
      at.mass = found.mass;
      shift = next;
    }
    at.value = prefix;
    return at;
  }

  // Keeps `count` of the `size` tokens with this exponent, and all above.
  __device__ void settle(Kept& kept, uint32_t exponent, uint64_t count, uint64_t size, Team& team) const {
    const Kept before = kept;
    kept = {exponent, 0, INT32_MAX};
    if (count == size) {
      if (before.exponent == exponent) kept = before;
      return;
    }
    const Border by_key = descend(team, before, By::key, kept, {count, 0});
    kept.key = by_key.value;
    if (count - by_key.above == by_key.mass) {
      if (before.exponent == exponent && before.key == by_key.value) kept = before;
      return;
    }
    const Border by_id = descend(team, before, By::id, kept, {count - by_key.above, 0});
    kept.token = static_cast<int32_t>(kIds - by_id.value);
  }

  // What top-k and top-p leave.
  __device__ Kept filter(Team& team) const {
    Kept kept;
    if (task.has_top_k) {
      const Goal goal{static_cast<uint64_t>(task.row.top_k), 0};
      const Border at = descend(team, kept, By::exponent, kept, goal);
      settle(kept, at.value, goal.of(at.total) - at.above, at.mass, team);
    }
    if (task.has_top_p) {
      const Goal goal{0, task.row.top_p};
      const Border at = descend(team, kept, By::exponent, kept, goal);
      const uint64_t weight = weight_of_exponent(at.value);
      const auto tokens = [&](uint64_t mass) { return mass <= weight ? 1 : (mass + weight - 1) / weight; };
      settle(kept, at.value, tokens(goal.of(at.total) - at.above), tokens(at.mass), team);
    }
    return kept;
  }

  __device__ void draw(const Kept& kept, Team& team) const {
    Shared& s = task.parts.s;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const uint64_t least = weight_to_keep(task.row.min_p);
    const auto mass = [&](float logit, int token) {
      const uint32_t exponent = task.scale.exponent(logit);
      if (exponent == 0 || !kept.has(exponent, logit, token)) return uint64_t{0};
      const uint64_t weight = weight_of_exponent(exponent);
      return weight >= least ? weight : 0;
    };
    uint64_t sum = 0;
    visit([&](float logit, int token) { sum += mass(logit, token); });
    sum = warp_combine<Add>(sum);
    if (lane == 0) s.scan[warp] = sum;
    __syncthreads();
    uint64_t block_sum = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) block_sum += s.scan[i];
    team.exchange<1>({block_sum});
    uint64_t before = 0, total = 0;
#pragma unroll 1
    for (int block = 0; block < team.blocks; ++block) {
      if (block < team.rank) before += team.received(block);
      total += team.received(block);
    }
    uint64_t rest = draw_below(total, s.random);
    if (rest < before || rest - before >= block_sum) return;  // another block's
    rest -= before;
    int chosen_warp = 0;
    while (rest >= s.scan[chosen_warp]) rest -= s.scan[chosen_warp++];
    // The warp's tokens among all threads, still in order.
    const Range range = stretch(chosen_warp);
    const int each = (range.end - range.begin + kThreads - 1) / kThreads;
    const int first = range.begin + static_cast<int>(threadIdx.x) * each, end = min(first + each, range.end);
    uint64_t weights = 0;
#pragma unroll 4
    for (int token = first; token < end; ++token) weights += mass(task.logits[token], token);
    __syncthreads();  // s.scan has been read
    uint64_t all;
    const uint64_t threads_before = sum_before(weights, s.scan, all);
    if (rest < threads_before || rest - threads_before >= weights) return;
    rest -= threads_before;
    for (int token = first;; ++token) {
      const uint64_t weight = mass(task.logits[token], token);
      if (rest < weight) return task.emit(token);
      rest -= weight;
    }
  }
};

__device__ __noinline__ inline void choose_from_all(const RowTask& task, Team& team) {
  const RowTask copy = copy_of(task);
  const Walk walk{copy};
  Kept kept;
  if (task.has_top_k || task.has_top_p) {
    __syncthreads();  // the list, which lies where the bins are, has been read
    empty_bins(task.parts.s);
    __syncthreads();
    kept = walk.filter(team);
  }
  walk.draw(kept, team);
}

}  // namespace llamita::select
