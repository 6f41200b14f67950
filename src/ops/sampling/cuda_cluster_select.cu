// cluster_select: a cluster of blocks a row, or a block where rows are many, and the logits read once.
//
// Each warp has a stretch of the vocabulary, each lane 16 of every 512 tokens: a chunk. The only pass over
// the logits keeps of each chunk the best logit and, for rows that sample, its mass, a sum of approximate
// 2^x. Then the best token is known, and with it which tokens are too light for any filter to need them: with
// top-p, all that are lighter than a V-th of what is spared. The others, seldom more than some hundred, are
// taken from the few chunks that have one and gathered in the first block, which does the rest alone.
//
// top-k and top-p ask in which exponent (integer_weight.h), largest first, a running sum of counts or weights
// reaches a given value: radix descent, eleven bits a pass, sums in shared memory. The draw asks the same of
// tokens in order: sums of warps, then of threads. top-p's total takes weights of the list as they are and
// the light rest as its bounds; when these leave the border open, or the list is too long, all blocks of the
// row do the same over the whole vocabulary, with exact weights. Sums are integers, so nothing depends on
// their order, and the choice is the CPU's.
//
// Shared memory of a block: Shared with the sums | chunks | lists of all blocks (used in the first).
// Bound by latency for a few rows, by memory for many.
#include <algorithm>
#include <cfloat>
#include <cstddef>

#include "hw/cuda/device/ptx/math.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/integer_weight.h"
#include "ops/sampling/philox.h"
#include "ops/sampling/select_team.cuh"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

using select::Add;
using select::kLog2Warps;
using select::kMostBlocks;
using select::kThreads;
using select::kWarps;
using select::Larger;
using select::Team;

constexpr int kRound = 128;        // tokens of a warp: four a lane
constexpr int kQuad = 4 * kRound;  // loaded at once
constexpr int kMostChunks = 16;    // of a lane
constexpr int kListRoom = 1024;    // a block's
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr uint32_t kInfinityKey = 0xFF800000u, kMinusInfinityKey = 0x007FFFFFu;
// Of the sums of approximate masses: far more than exp2_approx, the rounding of exponents up to 40 and the
// sums of a chunk are off.
constexpr double kMassError = 0x1p-12;

// How a row is cut.
struct Cut {
  int blocks;        // of a row, a power of two
  int warp_tokens;   // a multiple of kRound
  int chunk_tokens;  // of a warp: a multiple of kQuad
  int chunks;        // of a lane
};

struct SelectParams {
  float* logits;
  int64_t stride;
  int vocab;
  bool aligned;  // rows begin at 16 bytes
  const DeviceSamplingRow* rows;
  const DeviceTokenEntry* entries;
  const int32_t* token_ids;
  int32_t* tokens;
  Cut cut;
};

// What a block tells the first one of its list. Light tokens are not in it.
struct ListHead {
  uint64_t count;
  double light;  // their mass, in units of the best token's weight
};

struct Border {
  uint32_t value;
  uint64_t above;  // the sum of all with larger values
  uint64_t mass;   // of those with this value
  uint64_t total;
};

// What tokens are ordered by, largest first.
enum class By { exponent, key, id };
constexpr int bits_of(By by) { return by == By::exponent ? 30 : by == By::key ? 32 : 24; }
constexpr auto kIds = static_cast<uint32_t>(kMaxVocab);

// Where a running sum is to be found: at `count` or, with top-p, at its share of the sum of all weights and
// of light tokens beside.
struct Goal {
  uint64_t count;
  float top_p;  // 0: counts tokens
  uint64_t light;
  constexpr uint64_t of(uint64_t total) const {
    const uint64_t wanted = top_p > 0 ? mass_to_keep(top_p, total + light) : count;
    return wanted < total ? wanted : total;
  }
};

struct Range {
  int begin, end;
};

struct Shared {
  uint64_t bins[kBins];  // low and high word
  DeviceSamplingRow row;
  select::TeamShared team;
  uint64_t list_full;  // mbarrier: the lists of all blocks are here
  ListHead heads[kMostBlocks];
  uint64_t scan[kWarps];
  double light[kWarps];
  uint32_t keys[kWarps];
  int counts[kWarps];
  Range vocabulary[kWarps], list[kWarps];  // each warp's
  Border border;
  int best_token;
};

struct Parts {
  Shared& s;
  float* chunk_best;  // (chunks, kThreads)
  float* chunk_mass;  // (chunks, kThreads)
  uint64_t* lists;    // (blocks, kListRoom), a logit's bits and a token
};

__device__ __forceinline__ Parts parts_of(uint8_t* smem, int chunks) {
  auto& s = *reinterpret_cast<Shared*>(smem);
  auto* best = reinterpret_cast<float*>(smem + sizeof(Shared));
  auto* mass = best + chunks * kThreads;
  return {s, best, mass, reinterpret_cast<uint64_t*>(mass + chunks * kThreads)};
}

// +0 and -0 are equal logits. NaN has the largest key.
__device__ __forceinline__ uint32_t key_of(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float logit_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

struct Scale {
  float best, scale;
  __device__ __forceinline__ uint32_t exponent(float logit) const {
    return weight_exponent(best - logit, scale);
  }
};

// Tokens with their logits in order of id; each warp has a range of them.
struct Stretch {
  const float* logits;      // of the vocabulary, or
  const uint64_t* list;     // of a list
  const Range* ranges;      // (kWarps)
  const float* chunk_best;  // of the vocabulary: what is below `least` need not be visited
  int chunk_tokens;
  uint32_t least;  // exponent

  __device__ __forceinline__ float at(int i, int& token) const {
    if (list == nullptr) {
      token = i;
      return logits[i];
    }
    const uint64_t entry = list[i];
    token = static_cast<int>(entry >> 32);
    return __uint_as_float(static_cast<uint32_t>(entry));
  }

  // f(logit, token) by all lanes at once, for 32 tokens in order; -infinity for tokens that are none.
  template <class F>
  __device__ __forceinline__ void visit(const Scale& scale, const F& f) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const Range own = ranges[warp];
    int chunk = static_cast<int>(threadIdx.x);
    for (int base = own.begin; base < own.end; base += chunk_tokens, chunk += kThreads) {
      unsigned live = ~0u;
      if (chunk_best != nullptr) live = __ballot_sync(0xffffffff, scale.exponent(chunk_best[chunk]) >= least);
      if (live == 0) continue;
      const int end = min(own.end, base + chunk_tokens);
      for (int first = base; first < end; first += 32) {
        // Lane n's chunk has tokens 4 n to 4 n + 3 of each round.
        const unsigned lanes = live >> ((first - base) / 4 % 32) & 0xFFu;
        if (lanes == 0) continue;
        const int i = first + lane;
        int token = 0;
        float logit = -INFINITY;
        if (i < end && (lanes >> (lane / 4) & 1) != 0) logit = at(i, token);
        f(logit, token);
      }
    }
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
#pragma unroll 1
      for (int block = 0; block < team.blocks; ++block) own[i] += team.read(&s.bins[top - i], block);
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
#pragma unroll
  for (int i = 0; i < kMost; ++i) s.bins[static_cast<int>(threadIdx.x) + i * kThreads] = 0;
  __syncthreads();
  Border border = s.border;
  border.total = total;
  if (team.blocks > 1) {
    // One block has found it, the others have zeros.
    team.exchange<3>({border.value, border.above, border.mass});
    border.value = static_cast<uint32_t>(team.received_all<Add>(0));
    border.above = team.received_all<Add>(1);
    border.mass = team.received_all<Add>(2);
  }
  return border;
}

__device__ __forceinline__ void penalise(const DeviceSamplingRow& row, float in_reply, float& logit) {
  float x = logit;
  x = x > 0 ? __fdiv_rn(x, row.repetition_penalty) : __fmul_rn(x, row.repetition_penalty);
  if (in_reply != 0)
    x = __fsub_rn(__fsub_rn(x, __fmul_rn(row.frequency_penalty, in_reply)), row.presence_penalty);
  logit = x;
}

// Each block changes the logits that it reads.
__device__ void adjust(const SelectParams& p, const DeviceSamplingRow& row, float* logits, Range own) {
  const auto is_own = [&](int32_t token) { return token >= own.begin && token < own.end; };
  for (int i = row.bias_begin + static_cast<int>(threadIdx.x); i < row.bias_end; i += kThreads) {
    const DeviceTokenEntry bias = p.entries[i];
    if (is_own(bias.token)) logits[bias.token] = __fadd_rn(logits[bias.token], bias.value);
  }
  __syncthreads();
  const int32_t late = row.late < 0 ? -1 : p.token_ids[row.late];
  bool met = false;
  for (int i = row.seen_begin + static_cast<int>(threadIdx.x); i < row.seen_end; i += kThreads) {
    const DeviceTokenEntry seen = p.entries[i];
    met |= seen.token == late;
    if (is_own(seen.token))
      penalise(row, seen.value + (seen.token == late ? 1.0f : 0.0f), logits[seen.token]);
  }
  if (__syncthreads_or(met) == 0 && is_own(late) && threadIdx.x == 0) penalise(row, 1.0f, logits[late]);
  __syncthreads();
}

// The lane's 16 tokens of the 512 from `base` on.
__device__ __forceinline__ void load_quad(const SelectParams& p, const float* logits, int base, int end,
                                          float4 (&x)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = base + i * kRound + lane * 4;
    if (p.aligned && token + 4 <= end) {
      x[i] = *reinterpret_cast<const float4*>(logits + token);
    } else {
      x[i] = {token < end ? logits[token] : -INFINITY, token + 1 < end ? logits[token + 1] : -INFINITY,
              token + 2 < end ? logits[token + 2] : -INFINITY,
              token + 3 < end ? logits[token + 3] : -INFINITY};
    }
  }
}

// The pass over the logits; gives the best of the lane's. `scale`: of rows that sample, else 0.
__device__ float summarise(const SelectParams& p, const float* logits, float scale, const Parts& parts) {
  const Range own = parts.s.vocabulary[threadIdx.x / 32];
  float best = -INFINITY;
  float4 next[4];
  load_quad(p, logits, own.begin, own.end, next);
  int base = own.begin;
  const int chunks = p.cut.chunks * kThreads;
  for (int chunk = threadIdx.x; chunk < chunks; chunk += kThreads, base += p.cut.chunk_tokens) {
    float chunk_best = -INFINITY, mass = 0;
    for (int quad = base; quad < min(own.end, base + p.cut.chunk_tokens); quad += kQuad) {
      float4 x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = next[i];
      if (quad + kQuad < own.end) load_quad(p, logits, quad + kQuad, own.end, next);
      float quad_best = chunk_best;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        quad_best = ptx::max_or_nan(
            quad_best, ptx::max_or_nan(ptx::max_or_nan(x[i].x, x[i].y), ptx::max_or_nan(x[i].z, x[i].w)));
      if (scale != 0) {
        const float from = fmaxf(quad_best, -FLT_MAX);  // minus infinity has no difference to itself
        const auto part = [&](float logit) { return ptx::exp2_approx((logit - from) * scale); };
        float sums[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[i] = (part(x[i].x) + part(x[i].y)) + (part(x[i].z) + part(x[i].w));
        mass = mass * part(chunk_best) + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
      }
      chunk_best = quad_best;
    }
    parts.chunk_best[chunk] = chunk_best;
    parts.chunk_mass[chunk] = mass;
    best = ptx::max_or_nan(best, chunk_best);
  }
  return best;
}

// The lowest of the block's tokens with this key, which is the block's best; in all threads.
__device__ int lowest_token(const SelectParams& p, const float* logits, uint32_t own_key, uint32_t key,
                            const Parts& parts) {
  Shared& s = parts.s;
  if (own_key == key) {
    const Range own = s.vocabulary[threadIdx.x / 32];
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int base = own.begin, lowest = INT32_MAX;
    for (int chunk = static_cast<int>(threadIdx.x); key_of(parts.chunk_best[chunk]) != key; chunk += kThreads)
      base += p.cut.chunk_tokens;
    for (int quad = base; quad < min(own.end, base + p.cut.chunk_tokens); quad += kQuad) {
      float4 x[4];
      load_quad(p, logits, quad, own.end, x);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float logit[4] = {x[i].x, x[i].y, x[i].z, x[i].w};
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (key_of(logit[j]) == key) lowest = min(lowest, quad + i * kRound + lane * 4 + j);
      }
    }
    atomicMin(&s.best_token, lowest);
  }
  __syncthreads();
  return s.best_token;
}

struct Own {
  int count;  // of the lane's tokens that belong on the list
  double light;
};

// Looks again at the chunks that have a token for the list.
__device__ Own measure(const SelectParams& p, const float* logits, const Scale& scale, uint32_t least,
                       const Parts& parts) {
  const Range own = parts.s.vocabulary[threadIdx.x / 32];
  Own found{0, 0};
  int chunk = static_cast<int>(threadIdx.x);
  for (int base = own.begin; base < own.end; base += p.cut.chunk_tokens, chunk += kThreads) {
    const float best = parts.chunk_best[chunk];
    if (scale.exponent(best) < least) {
      found.light += parts.chunk_mass[chunk] * ptx::exp2_approx((best - scale.best) * scale.scale);
      continue;
    }
    for (int quad = base; quad < min(own.end, base + p.cut.chunk_tokens); quad += kQuad) {
      float4 x[4];
      load_quad(p, logits, quad, own.end, x);
      float light = 0;
      const auto look = [&](float logit) {
        if (scale.exponent(logit) >= least)
          ++found.count;
        else
          light += ptx::exp2_approx((logit - scale.best) * scale.scale);
      };
#pragma unroll
      for (int i = 0; i < 4; ++i) look(x[i].x), look(x[i].y), look(x[i].z), look(x[i].w);
      found.light += light;
    }
  }
  return found;
}

// One row's choice among weighted tokens.
struct Choice {
  const SelectParams& p;
  const DeviceSamplingRow& row;
  const Parts& parts;
  Scale scale;
  unsigned index;
  bool has_top_k, has_top_p;

  // In which value, largest first, does the running sum over the tokens that are `kept` reach the goal? With
  // By::key only tokens of the exponent `among`.exponent count, with By::id those of its key too. `digits`:
  // how many of the value are wanted, eleven bits each but the last.
  __device__ __noinline__ Border descend(Team& team, const Stretch& of, const Kept& kept, By by,
                                         const Kept& among, const Goal& goal, int digits = 3) const {
    Shared& s = parts.s;
    uint32_t prefix = 0;
    uint64_t wanted = 0;
    Border at{};
    int shift = bits_of(by);
#pragma unroll 1
    for (int digit = 0; shift > 0 && digit < digits; ++digit) {
      const int next = max(shift - kDigitBits, 0);
      of.visit(scale, [&](float logit, int token) {
        const uint32_t exponent = scale.exponent(logit);
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
    at.value = prefix << shift;
    return at;
  }

  // No filter needs a token with a lower exponent; a whole number of powers.
  __device__ uint32_t least_exponent(Team& team) const {
    if (has_top_k) {
      // Not below the k-th best chunk lie k tokens; where chunks are few, any token may be wanted.
      const int chunks = p.cut.chunks * kThreads;
      Range* ranges = parts.s.list;
      if (threadIdx.x < kWarps) {
        const int each = chunks / kWarps, first = static_cast<int>(threadIdx.x) * each;
        ranges[threadIdx.x] = {first, first + each};
      }
      __syncthreads();
      const Stretch best{parts.chunk_best, nullptr, ranges, nullptr, chunks, 0};
      const auto k = static_cast<uint64_t>(row.top_k);
      const Border at = descend(team, best, Kept{}, By::exponent, Kept{}, {k, 0, 0}, 1);
      return at.total < k ? 1 : max(at.value, 1u);
    }
    int power = 0;
    if (has_top_p) {
      // What V tokens weigh together must be less than what is spared, (1 - p) * 2^40 at the least.
      const double spared = (1.0 - static_cast<double>(row.top_p)) * (1.0 - 0x1p-20);
      power = kWeightBits + (__double2hiint(spared) >> 20) - 1023 - (32 - __clz(p.vocab));
    } else if (row.min_p > 0) {
      power = 63 - __clzll(static_cast<long long>(weight_to_keep(row.min_p)));
    }
    return max(static_cast<uint32_t>(max(power, 0)) << 24, 1u);
  }

  // Keeps `count` of the `size` tokens with this exponent, and all above.
  __device__ void settle(Kept& kept, uint32_t exponent, uint64_t count, uint64_t size, Team& team,
                         const Stretch& of) const {
    const Kept before = kept;
    kept = {exponent, 0, INT32_MAX};
    if (count == size) {
      if (before.exponent == exponent) kept = before;
      return;
    }
    const Border by_key = descend(team, of, before, By::key, kept, {count, 0, 0});
    kept.key = by_key.value;
    if (count - by_key.above == by_key.mass) {
      if (before.exponent == exponent && before.key == by_key.value) kept = before;
      return;
    }
    const Border by_id = descend(team, of, before, By::id, kept, {count - by_key.above, 0, 0});
    kept.token = static_cast<int32_t>(kIds - by_id.value);
  }

  // Does top-k and top-p. False: with a light rest between these bounds top-p's border is not certain.
  __device__ __noinline__ bool filter(Kept& kept, Team& team, const Stretch& of, uint64_t light_least,
                                      uint64_t light_most) const {
    if (has_top_k) {
      const Goal goal{static_cast<uint64_t>(row.top_k), 0, 0};
      const Border at = descend(team, of, kept, By::exponent, kept, goal);
      settle(kept, at.value, goal.of(at.total) - at.above, at.mass, team, of);
    }
    if (has_top_p) {
      const Goal goal{0, row.top_p, light_least};
      const Border at = descend(team, of, kept, By::exponent, kept, goal);
      const uint64_t most = mass_to_keep(row.top_p, at.total + light_most);
      if (most > at.total) return false;
      const uint64_t weight = weight_of_exponent(at.value);
      const auto tokens = [&](uint64_t mass) { return mass <= weight ? 1 : (mass + weight - 1) / weight; };
      const uint64_t count = tokens(goal.of(at.total) - at.above);
      if (tokens(most - at.above) != count) return false;
      settle(kept, at.value, count, tokens(at.mass), team, of);
    }
    return true;
  }

  __device__ void emit(int32_t token) const {
    p.tokens[index] = token;
    if (row.copy != nullptr) *row.copy = token;
  }

  __device__ __noinline__ void draw(const Kept& kept, Team& team, const Stretch& of) const {
    Shared& s = parts.s;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const uint64_t least = weight_to_keep(row.min_p);
    const auto mass = [&](float logit, int token) {
      const uint32_t exponent = scale.exponent(logit);
      if (exponent == 0 || !kept.has(exponent, logit, token)) return uint64_t{0};
      const uint64_t weight = weight_of_exponent(exponent);
      return weight >= least ? weight : 0;
    };
    uint64_t sum = 0;
    of.visit(scale, [&](float logit, int token) { sum += mass(logit, token); });
    sum = select::warp_combine<Add>(sum);
    if (threadIdx.x % 32 == 0) s.scan[warp] = sum;
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
    uint64_t rest = draw_below(total, random_bits(row.seed, row.choice, row.position));
    if (rest < before || rest - before >= block_sum) return;  // another block's
    rest -= before;
    int chosen_warp = 0;
    while (rest >= s.scan[chosen_warp]) rest -= s.scan[chosen_warp++];
    // The warp's tokens among all threads, still in order.
    const Range range = of.ranges[chosen_warp];
    const int each = (range.end - range.begin + kThreads - 1) / kThreads;
    const int first = range.begin + static_cast<int>(threadIdx.x) * each, end = min(first + each, range.end);
    uint64_t own = 0;
    int token;
    for (int i = first; i < end; ++i) {
      const float logit = of.at(i, token);
      own += mass(logit, token);
    }
    __syncthreads();  // s.scan has been read
    uint64_t all;
    const uint64_t threads_before = sum_before(own, s.scan, all);
    if (rest < threads_before || rest - threads_before >= own) return;
    rest -= threads_before;
    for (int i = first;; ++i) {
      const float logit = of.at(i, token);
      const uint64_t weight = mass(logit, token);
      if (rest < weight) return emit(token);
      rest -= weight;
    }
  }

  // Puts the block's list, in order, into the first block's memory. `first`: of the warp's entries.
  __device__ void write_list(const Team& team, const Stretch& vocabulary, int first) const {
    const unsigned before = (1u << threadIdx.x % 32) - 1;
    uint64_t* to = parts.lists + team.rank * kListRoom;
    vocabulary.visit(scale, [&](float logit, int token) {
      const bool taken = scale.exponent(logit) >= vocabulary.least;
      const unsigned mask = __ballot_sync(0xffffffff, taken);
      if (taken) {
        const uint64_t entry = uint64_t{static_cast<uint32_t>(token)} << 32 | __float_as_uint(logit);
        uint64_t* place = to + first + __popc(mask & before);
#if __CUDA_ARCH__ >= 900
        if (team.blocks > 1)
          ptx::store_async_u64(place, entry, &parts.s.list_full, 0);
        else
#endif
          *place = entry;
      }
      first += __popc(mask);
    });
  }

  __device__ void send_list(const Team& team, const Stretch& vocabulary, const Own& own) const {
    Shared& s = parts.s;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int count = static_cast<int>(__reduce_add_sync(0xffffffff, static_cast<unsigned>(own.count)));
    const double light = select::warp_combine<Add>(own.light);
    if (lane == 0) {
      s.counts[warp] = count;
      s.light[warp] = light;
    }
    __syncthreads();
    int first = 0, all = 0;
    double all_light = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (i < warp) first += s.counts[i];
      all += s.counts[i];
      all_light += s.light[i];
    }
    const bool fits = all <= kListRoom;
    if (threadIdx.x == 0) {
#if __CUDA_ARCH__ >= 900
      if (team.blocks > 1) {
        ListHead& head = s.heads[team.rank];
        ptx::store_async_u64(&head.count, static_cast<uint64_t>(all), &s.list_full, 0);
        ptx::store_async_u64(reinterpret_cast<uint64_t*>(&head.light),
                             static_cast<uint64_t>(__double_as_longlong(all_light)), &s.list_full, 0);
        ptx::mbarrier_arrive_expect_tx_cluster(&s.list_full, 16 + (fits ? 8 * static_cast<uint32_t>(all) : 0),
                                               0);
      } else
#endif
        s.heads[0] = {static_cast<uint64_t>(all), all_light};
    }
    if (fits) write_list(team, vocabulary, first);
  }

  // In the first block: chooses from the list, if that is certain to be right.
  __device__ bool choose_from_list(const Team& team) const {
    Shared& s = parts.s;
#if __CUDA_ARCH__ >= 900
    if (team.blocks > 1) ptx::mbarrier_wait(&s.list_full, 0);
#endif
    double light = 0;
    bool fits = true;
#pragma unroll 1
    for (int block = 0; block < team.blocks; ++block) {
      light += s.heads[block].light;
      fits = fits && s.heads[block].count <= kListRoom;
    }
    if (threadIdx.x < kWarps) {
      // Each block's list is divided among as many warps.
      const int log2_warps = kLog2Warps - team.log2_blocks(), warps = 1 << log2_warps;
      const int block = static_cast<int>(threadIdx.x) >> log2_warps, base = block * kListRoom;
      const int count = static_cast<int>(s.heads[block].count), each = (count + warps - 1) >> log2_warps;
      const int first = (static_cast<int>(threadIdx.x) & (warps - 1)) * each;
      s.list[threadIdx.x] = {base + min(first, count), base + min(first + each, count)};
    }
    __syncthreads();
    if (!fits) return false;
    constexpr auto kUnit = static_cast<double>(kFullWeight);
    const double least = light * (1.0 - kMassError) * kUnit - p.vocab;
    const double most = light * (1.0 + kMassError) * kUnit + p.vocab;
    if (has_top_p && !has_top_k && !(most < 0x1p62)) return false;  // NaN too
    const bool counts = has_top_p && !has_top_k;
    const Stretch list{nullptr, parts.lists, s.list, nullptr, kListRoom, 0};
    Team alone(team, nullptr);
    Kept kept;
    if (!filter(kept, alone, list, counts ? static_cast<uint64_t>(max(least, 0.0)) : 0,
                counts ? static_cast<uint64_t>(most) + 1 : 0))
      return false;
    if (team.blocks > 1) team.tell(1);
    draw(kept, alone, list);
    return true;
  }

  __device__ void choose(const float* logits, Team& team) const {
    Stretch vocabulary{
        logits, nullptr, parts.s.vocabulary, parts.chunk_best, p.cut.chunk_tokens, least_exponent(team)};
    send_list(team, vocabulary, measure(p, logits, scale, vocabulary.least, parts));
    if (team.rank == 0) {
      __syncthreads();
      if (choose_from_list(team)) return;
      if (team.blocks > 1) team.tell(0);
    } else if (team.hear() != 0) {
      return;
    }
    if (has_top_p && !has_top_k) vocabulary.least = 1;
    Kept kept;
    filter(kept, team, vocabulary, 0, 0);
    draw(kept, team, vocabulary);
  }
};

__device__ void choose(const SelectParams& p, const DeviceSamplingRow& row, const float* logits,
                       const Parts& parts, Team& team, unsigned index) {
  Shared& s = parts.s;
  const bool greedy = row.temperature == 0.0f;
  const float scale = greedy ? 0.0f : __fdiv_rn(kLog2E, row.temperature);
  const uint32_t own_key = key_of(summarise(p, logits, scale, parts));
  const uint32_t warp_key = __reduce_max_sync(0xffffffff, own_key);
  if (threadIdx.x % 32 == 0) s.keys[threadIdx.x / 32] = warp_key;
  __syncthreads();
  uint32_t key = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) key = max(key, s.keys[i]);
  // The largest key, of equals the lowest token.
  uint64_t packed = uint64_t{key} << 32;
  if (greedy && key < kInfinityKey && key > kMinusInfinityKey)
    packed |= static_cast<uint32_t>(INT32_MAX - lowest_token(p, logits, own_key, key, parts));
  team.exchange<1>({packed});
  packed = team.received_all<Larger>();
  key = static_cast<uint32_t>(packed >> 32);
  const bool broken = key >= kInfinityKey || key <= kMinusInfinityKey;
  const Choice choice{.p = p,
                      .row = row,
                      .parts = parts,
                      .scale = {logit_of(key), scale},
                      .index = index,
                      .has_top_k = row.top_k > 0 && row.top_k < p.vocab,
                      .has_top_p = row.top_p < 1.0f};
  if (!broken && !greedy) return choice.choose(logits, team);
  if (team.rank == 0 && threadIdx.x == 0)
    choice.emit(broken ? -1 : INT32_MAX - static_cast<int32_t>(packed & 0xffffffffu));
}

__global__ void __launch_bounds__(kThreads, 2) cluster_select(const __grid_constant__ SelectParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  const Parts parts = parts_of(smem, p.cut.chunks);
  Shared& s = parts.s;
  device::start_successor();
  Team team(s.team, p.cut.blocks);
  const unsigned index = blockIdx.y;
  const int block_tokens = kWarps * p.cut.warp_tokens, first = team.rank * block_tokens;
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) s.bins[i] = 0;
  if (threadIdx.x < kWarps) {
    const int begin = first + static_cast<int>(threadIdx.x) * p.cut.warp_tokens;
    s.vocabulary[threadIdx.x] = {min(begin, p.vocab), min(begin + p.cut.warp_tokens, p.vocab)};
  }
  constexpr int kRowWords = sizeof(DeviceSamplingRow) / 8;
  if (threadIdx.x < kRowWords)  // the host wrote it before any kernel of the step ran
    reinterpret_cast<uint64_t*>(&s.row)[threadIdx.x] =
        reinterpret_cast<const uint64_t*>(p.rows + index)[threadIdx.x];
  if (threadIdx.x == 0) {
    s.best_token = INT32_MAX;
#if __CUDA_ARCH__ >= 900
    if (p.cut.blocks > 1) {
      ptx::mbarrier_init(&s.list_full, static_cast<uint32_t>(p.cut.blocks));
      ptx::mbarrier_init_fence();
    }
#endif
  }
  __syncthreads();
  team.announce();
  device::wait_for_predecessor();
  team.meet();
  float* logits = p.logits + index * p.stride;
  const DeviceSamplingRow& row = s.row;
  if (row.bias_begin < row.bias_end || row.seen_begin < row.seen_end || row.late >= 0)
    adjust(p, row, logits, {first, min(first + block_tokens, p.vocab)});
  choose(p, row, logits, parts, team, index);
}

// As many blocks as the card has room for: few rows have it to themselves.
Cut cut_of(const Caps& caps, int64_t rows, int vocab) {
  int blocks = 1;
  while (caps.arch / 10 == 9 && blocks < kMostBlocks && 2 * blocks * rows <= caps.sm_count) blocks *= 2;
  const auto up = [](int a, int b) { return (a + b - 1) / b * b; };
  Cut cut{};
  cut.blocks = blocks;
  cut.warp_tokens = up(up(vocab, blocks * kWarps) / (blocks * kWarps), kRound);
  cut.chunk_tokens = up(up(cut.warp_tokens, kMostChunks) / kMostChunks, kQuad);
  cut.chunks = up(cut.warp_tokens, cut.chunk_tokens) / cut.chunk_tokens;
  return cut;
}

size_t smem_of(const Cut& cut) {
  return sizeof(Shared) + static_cast<size_t>(cut.chunks) * kThreads * 2 * sizeof(float) +
         static_cast<size_t>(cut.blocks) * kListRoom * sizeof(uint64_t);
}

}  // namespace

void device_sampling_cluster_select(const DeviceSamplingArgs& args, Context& context) {
  const int64_t R = args.logits.dim(0), stride = args.logits.stride(0);
  if (R == 0) return;
  auto* logits = args.logits.ptr<float>();
  const Cut cut = cut_of(context.caps(), R, args.vocab_limit);
  const SelectParams params{.logits = logits,
                            .stride = stride,
                            .vocab = args.vocab_limit,
                            .aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0 && stride % 4 == 0,
                            .rows = static_cast<const DeviceSamplingRow*>(args.rows.data()),
                            .entries = data_or_null<const DeviceTokenEntry>(args.entries),
                            .token_ids = data_or_null<const int32_t>(args.token_ids),
                            .tokens = args.tokens.ptr<int32_t>(),
                            .cut = cut};
  cuda::launch(cluster_select,
               {.grid = dim3(static_cast<unsigned>(cut.blocks), static_cast<unsigned>(R)),
                .block = dim3(kThreads),
                .smem = smem_of(cut),
                .stream = context.stream().get(),
                .cluster = cut.blocks,
                .pdl = has_pdl(context.caps())},
               params);
}

}  // namespace llamita
