// cluster_select: a cluster of blocks a row, after cpu_select.cc. One pass finds the best token. Sampling
// then lists the tokens that may be chosen: with top-k those not below the k-th best of the threads' own
// maxima, with top-p those too heavy to be spared together. top-k, top-p and the final draw are all the same
// question: in which token, in a given order, does a running sum first reach a given value? Sums are
// integers, so it is answered by radix descent, three bits a pass, whatever the order of the list.
//
// Token t belongs to block t / 1024 % blocks of its cluster, thread t % 1024, and each block keeps the list
// of its own tokens. What a pass sums up goes from every block's shared memory into an inbox in every other's
// (Team::share), so all blocks know it after one cluster barrier. Cards without clusters take one block a
// row.
//
// Bound by latency: a pass of 128k logits by one block takes 20 us, by eight about 3; a pass over a short
// list is two barriers. A greedy row is one pass, a row with top-p three and some twenty short ones.
#include <algorithm>

#include "hw/cuda/device/ptx/cluster_store.cuh"
#include "hw/cuda/device/ptx/smem.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/integer_weight.h"
#include "ops/sampling/philox.h"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kMostBlocks = 8;       // of a row; larger clusters are not portable
constexpr int64_t kRowsAtOnce = 32;  // that share the scratch: 32 lists of V entries
constexpr int kDigits = 8;           // of a pass of radix descent: three bits

// An entry of the list: the logit as an integer that orders as it does, and the token, -1 when it is out.
struct Entry {
  uint32_t key;
  int32_t token;
};

struct SelectParams {
  float* logits;
  int64_t stride;
  int vocab;
  const DeviceSamplingRow* rows;
  const DeviceTokenEntry* entries;
  const int32_t* token_ids;
  int32_t* tokens;
  Entry* lists;  // (rows of the launch, blocks, list_room)
  int64_t list_room;
  int blocks;  // of a row, a power of two
};

struct Shared {
  uint64_t sums[kWarps][kDigits];
  uint64_t inbox[2][kMostBlocks][kDigits];  // in turns: a block may be one exchange ahead of another
  unsigned long long count;                 // of the block's list
};

// +0 and -0 are equal logits.
__device__ __forceinline__ uint32_t key_of(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float logit_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

// The blocks of a row, and what they tell each other.
struct Team {
  Shared& s;
  int rank, blocks;
  int turn = 0;

  __device__ Team(Shared& shared, int blocks_in) : s(shared), rank(0), blocks(blocks_in) {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) {
      rank = static_cast<int>(ptx::cluster_rank());
      ptx::cluster_sync();  // nobody writes into a block that has not begun
    }
#endif
  }

  // Also a barrier of all threads of the row.
  __device__ __forceinline__ void sync() const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) return ptx::cluster_sync();
#endif
    __syncthreads();
  }

  // Gives s.sums, what each warp found, to all blocks: received(b, i) is what combine(a, b) makes of digit i
  // of the warps of block b. Valid until the next call but one.
  template <class Combine>
  __device__ __forceinline__ void share(const Combine& combine) {
    turn ^= 1;
    __syncthreads();
    if (threadIdx.x < 32) {
      // Four lanes a digit, eight warps each.
      const int digit = static_cast<int>(threadIdx.x) / 4, quarter = static_cast<int>(threadIdx.x) % 4;
      uint64_t value = s.sums[quarter][digit];
#pragma unroll
      for (int warp = 4; warp < kWarps; warp += 4) value = combine(value, s.sums[warp + quarter][digit]);
      value = combine(value, __shfl_xor_sync(0xffffffff, value, 1));
      value = combine(value, __shfl_xor_sync(0xffffffff, value, 2));
      if (quarter == 0) send(digit, value);
    }
    sync();
  }
  __device__ __forceinline__ uint64_t received(int block, int digit) const {
    return s.inbox[turn][block][digit];
  }

 private:
  __device__ __forceinline__ void send(int digit, uint64_t value) {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) {
      const uint32_t place = ptx::smem_address(&s.inbox[turn][rank][digit]);
      for (int block = 0; block < blocks; ++block)
        ptx::store_cluster_u64(ptx::cluster_address(place, static_cast<uint32_t>(block)), value);
      return;
    }
#endif
    s.inbox[turn][0][digit] = value;
  }
};

__device__ __forceinline__ uint64_t add(uint64_t a, uint64_t b) { return a + b; }
__device__ __forceinline__ uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// The sum over the row, in every thread.
__device__ uint64_t row_sum(uint64_t x, Team& team) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  if (threadIdx.x % 32 < kDigits) team.s.sums[threadIdx.x / 32][threadIdx.x % 32] = x;
  team.share(add);
  uint64_t sum = 0;
  for (int block = 0; block < team.blocks; ++block) sum += team.received(block, 0);
  return sum;
}

// Adds up each digit's sum over the warp and writes them to `out`. Halves what a lane holds with each
// exchange: 9 exchanges instead of 40.
__device__ __forceinline__ void warp_sums(uint64_t (&sums)[kDigits], uint64_t* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = kDigits / 2; half > 0; half /= 2) {
    const int step = half * 4;  // 16, 8, 4
    const bool upper = (lane & step) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const uint64_t sent = upper ? sums[i] : sums[i + half];
      sums[i] = (upper ? sums[i + half] : sums[i]) + __shfl_xor_sync(0xffffffff, sent, step);
    }
  }
  sums[0] += __shfl_xor_sync(0xffffffff, sums[0], 2);
  sums[0] += __shfl_xor_sync(0xffffffff, sums[0], 1);
  if (lane % 4 == 0) out[lane / 4] = sums[0];
}

struct Reached {
  uint32_t key;
  uint64_t above;  // the sum of all with larger keys
};

// Largest keys first, in which key does the running sum of masses reach `wanted` (1 .. the sum of all)?
// visit(f) calls f(key, mass) for this thread's share; kTopShift: of the highest three bits.
template <int kTopShift, class Visit>
__device__ Reached descend(uint64_t wanted, Team& team, const Visit& visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t prefix = 0;  // the bits that are known
  uint64_t above = 0;
  for (int shift = kTopShift; shift >= 0; shift -= 3) {
    uint64_t sums[kDigits] = {};
    bool any = false;
    visit([&](uint32_t key, uint64_t mass) {
      // At the top all higher bits are zero, and a shift by 32 or more would not be defined.
      const bool same = shift + 3 >= 32 || key >> (shift + 3) == prefix;
      any |= same;
      const uint32_t digit = key >> shift & 7;
#pragma unroll
      for (uint32_t i = 0; i < kDigits; ++i)
        if (same && digit == i) sums[i] += mass;
    });
    uint64_t* out = team.s.sums[threadIdx.x / 32];
    if (__any_sync(0xffffffff, any)) {
      warp_sums(sums, out);
    } else if (lane < kDigits) {
      out[lane] = 0;
    }
    team.share(add);
    // Every warp finds the digit for itself, a lane a digit: the sums of it and of all larger ones.
    uint64_t own = 0;
    for (int block = 0; block < team.blocks && lane < kDigits; ++block) own += team.received(block, lane);
    uint64_t from = own;
#pragma unroll
    for (int step = 1; step < kDigits; step *= 2) {
      const uint64_t next = __shfl_down_sync(0xffffffff, from, step);
      if (lane + step < kDigits) from += next;
    }
    const unsigned reached = __ballot_sync(0xffffffff, lane < kDigits && above + from >= wanted);
    const int digit = max(31 - __clz(static_cast<int>(reached)), 0);
    prefix = prefix << 3 | static_cast<uint32_t>(digit);
    above += __shfl_sync(0xffffffff, from - own, digit);
  }
  return {prefix, above};
}
constexpr int kKeyShift = 30;    // of 32 bits
constexpr int kTokenShift = 21;  // of 24 bits: a vocabulary has less than 2^23 tokens

__device__ __forceinline__ void penalise(const DeviceSamplingRow& row, float in_reply, float& logit) {
  float x = logit;
  x = x > 0 ? __fdiv_rn(x, row.repetition_penalty) : __fmul_rn(x, row.repetition_penalty);
  if (in_reply != 0)
    x = __fsub_rn(__fsub_rn(x, __fmul_rn(row.frequency_penalty, in_reply)), row.presence_penalty);
  logit = x;
}

// By the row's first block.
__device__ void adjust(const SelectParams& p, const DeviceSamplingRow& row, float* logits) {
  for (int i = row.bias_begin + static_cast<int>(threadIdx.x); i < row.bias_end; i += kThreads)
    logits[p.entries[i].token] = __fadd_rn(logits[p.entries[i].token], p.entries[i].value);
  __syncthreads();
  const int32_t late = row.late < 0 ? -1 : p.token_ids[row.late];
  bool met = false;
  for (int i = row.seen_begin + static_cast<int>(threadIdx.x); i < row.seen_end; i += kThreads) {
    const DeviceTokenEntry seen = p.entries[i];
    met |= seen.token == late;
    penalise(row, seen.value + (seen.token == late ? 1.0f : 0.0f), logits[seen.token]);
  }
  if (__syncthreads_or(met) == 0 && late >= 0 && late < p.vocab && threadIdx.x == 0)
    penalise(row, 1.0f, logits[late]);
  __syncthreads();
}

struct Best {
  uint32_t own_key;  // the largest of this thread's share, 0 when it has none
  uint32_t key;      // of the row
  int32_t token;     // -1: none may be chosen
};

// f(token) for this thread's share of the vocabulary, whose loads need not wait for each other.
template <class F>
__device__ __forceinline__ void each_token(int vocab, const Team& team, const F& f) {
  const int stride = team.blocks * kThreads;
#pragma unroll 8
  for (int token = team.rank * kThreads + static_cast<int>(threadIdx.x); token < vocab; token += stride)
    f(token);
}

__device__ Best find_best(const float* logits, int vocab, Team& team) {
  uint32_t key = 0;
  int32_t token = INT32_MAX;
  bool broken = false;
  each_token(vocab, team, [&](int i) {
    const float logit = logits[i];
    broken |= !(logit < INFINITY);  // NaN too
    const uint32_t candidate = key_of(logit);
    if (logit > -INFINITY && candidate > key) {
      key = candidate;
      token = i;
    }
  });
  // The largest key, of equals the lowest token.
  uint64_t packed = uint64_t{key} << 32 | static_cast<uint32_t>(INT32_MAX - token);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) packed = larger(packed, __shfl_xor_sync(0xffffffff, packed, step));
  const bool any_broken = __any_sync(0xffffffff, broken);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane < kDigits) team.s.sums[threadIdx.x / 32][lane] = lane == 0 ? packed : uint64_t{any_broken};
  team.share(larger);
  uint64_t found = 0;
  bool row_broken = false;
  for (int block = 0; block < team.blocks; ++block) {
    found = larger(found, team.received(block, 0));
    row_broken |= team.received(block, 1) != 0;
  }
  const auto best_key = static_cast<uint32_t>(found >> 32);
  const int32_t best = INT32_MAX - static_cast<int32_t>(found & 0xffffffffu);
  return {key, best_key, row_broken || best_key == 0 ? -1 : best};
}

// The block's list, in this thread's share.
struct List {
  Entry* entries;
  int count;
  float best, scale;

  __device__ __forceinline__ uint64_t weight(uint32_t key) const {
    return integer_weight(best - logit_of(key), scale);
  }
  template <class F>
  __device__ __forceinline__ void each(const F& f) const {
    for (int i = threadIdx.x; i < count; i += kThreads)
      if (entries[i].token >= 0) f(entries[i]);
  }
};

// Of the tokens with key `border`, only the `ties` lowest ids stay; those with smaller keys go.
__device__ void cut(const List& list, uint32_t border, uint64_t ties, Team& team) {
  const Reached last = descend<kTokenShift>(ties, team, [&](const auto& f) {
    list.each([&](const Entry& e) {
      if (e.key == border) f(0xFFFFFFu - static_cast<uint32_t>(e.token), uint64_t{1});
    });
  });
  const auto last_token = static_cast<int32_t>(0xFFFFFFu - last.key);
  list.each([&](Entry& e) {
    if (e.key < border || (e.key == border && e.token > last_token)) e.token = -1;
  });
}

__device__ void keep_top_k(const List& list, uint64_t k, Team& team) {
  uint64_t count = 0;
  list.each([&](const Entry&) { ++count; });
  if (row_sum(count, team) <= k) return;
  const Reached at = descend<kKeyShift>(
      k, team, [&](const auto& f) { list.each([&](const Entry& e) { f(e.key, uint64_t{1}); }); });
  cut(list, at.key, k - at.above, team);
}

__device__ void keep_top_p(const List& list, uint64_t wanted, Team& team) {
  const Reached at = descend<kKeyShift>(
      wanted, team, [&](const auto& f) { list.each([&](const Entry& e) { f(e.key, list.weight(e.key)); }); });
  const uint64_t weight = list.weight(at.key);
  cut(list, at.key, (wanted - at.above + weight - 1) / weight, team);
}

// Lists the tokens with at least this key and this weight.
__device__ void make_list(List& list, const float* logits, int vocab, uint32_t least_key,
                          uint64_t least_weight, Team& team) {
  unsigned long long& end = team.s.count;
  if (threadIdx.x == 0) end = 0;
  __syncthreads();
  const int stride = team.blocks * kThreads;
  for (int base = team.rank * kThreads; base < vocab; base += stride) {
    const int token = base + static_cast<int>(threadIdx.x);
    uint32_t key = 0;
    bool taken = false;
    if (token < vocab) {
      key = key_of(logits[token]);
      taken = key >= least_key && list.weight(key) >= least_weight;
    }
    const unsigned mask = __ballot_sync(0xffffffff, taken);
    if (mask == 0) continue;
    unsigned long long first = 0;
    if (threadIdx.x % 32 == 0) first = atomicAdd(&end, static_cast<unsigned long long>(__popc(mask)));
    first = __shfl_sync(0xffffffff, first, 0);
    const int before = __popc(mask & ((1u << threadIdx.x % 32) - 1));
    if (taken) list.entries[first + before] = {key, token};
  }
  __syncthreads();
  list.count = static_cast<int>(end);
}

__device__ int32_t draw(const List& list, uint64_t random, Team& team) {
  uint64_t sum = 0;
  list.each([&](const Entry& e) { sum += list.weight(e.key); });
  const uint64_t rest = draw_below(row_sum(sum, team), random);
  const Reached at = descend<kTokenShift>(rest + 1, team, [&](const auto& f) {
    list.each([&](const Entry& e) { f(0xFFFFFFu - static_cast<uint32_t>(e.token), list.weight(e.key)); });
  });
  return static_cast<int32_t>(0xFFFFFFu - at.key);
}

__device__ int32_t choose(const SelectParams& p, const DeviceSamplingRow& row, const float* logits,
                          Team& team) {
  const Best best = find_best(logits, p.vocab, team);
  if (best.token < 0 || row.temperature == 0.0f) return best.token;
  List list{.entries = p.lists + blockIdx.x * p.list_room,
            .count = 0,
            .best = logit_of(best.key),
            .scale = __fdiv_rn(kLog2E, row.temperature)};
  const auto top_k = static_cast<uint64_t>(row.top_k);
  const bool has_top_k = row.top_k > 0 && row.top_k < p.vocab, has_top_p = row.top_p < 1.0f;
  uint32_t least_key = 0;
  uint64_t least_weight = 1, wanted = 0;
  if (has_top_k && row.top_k <= kThreads && row.top_k <= p.vocab) {
    // At least k tokens are not below the k-th best of the threads' maxima.
    least_key = descend<kKeyShift>(top_k, team, [&](const auto& f) { f(best.own_key, uint64_t{1}); }).key;
  } else if (!has_top_k && has_top_p) {
    uint64_t sum = 0, count = 0;
    each_token(p.vocab, team, [&](int i) {
      const uint64_t weight = list.weight(key_of(logits[i]));
      sum += weight;
      count += weight > 0;
    });
    const uint64_t total = row_sum(sum, team);
    wanted = mass_to_keep(row.top_p, total);
    least_weight = (total - wanted) / row_sum(count, team) + 1;  // the lighter ones can all be spared
  }
  make_list(list, logits, p.vocab, least_key, least_weight, team);
  if (has_top_k) {
    keep_top_k(list, top_k, team);
    if (has_top_p) {
      uint64_t sum = 0;
      list.each([&](const Entry& e) { sum += list.weight(e.key); });
      wanted = mass_to_keep(row.top_p, row_sum(sum, team));
    }
  }
  if (has_top_p) keep_top_p(list, wanted, team);
  if (row.min_p > 0) {
    const uint64_t least = weight_to_keep(row.min_p);
    list.each([&](Entry& e) {
      if (list.weight(e.key) < least) e.token = -1;
    });
  }
  return draw(list, random_bits(row.seed, row.choice, row.position), team);
}

__global__ void __launch_bounds__(kThreads) cluster_select(const __grid_constant__ SelectParams p) {
  __shared__ Shared s;
  Team team(s, p.blocks);
  device::wait_for_predecessor();
  device::start_successor();
  const unsigned index = blockIdx.x / static_cast<unsigned>(p.blocks);
  const DeviceSamplingRow row = p.rows[index];
  float* logits = p.logits + index * p.stride;
  if (row.bias_begin < row.bias_end || row.seen_begin < row.seen_end || row.late >= 0) {
    if (team.rank == 0) adjust(p, row, logits);
    team.sync();
  }
  const int32_t token = choose(p, row, logits, team);
  if (team.rank != 0 || threadIdx.x != 0) return;
  p.tokens[index] = token;
  if (row.copy != nullptr) *row.copy = token;
}

// Few rows have the card to themselves.
int blocks_of_row(const Caps& caps, int64_t rows) {
  return caps.arch / 10 != 9 ? 1 : rows <= 16 ? kMostBlocks : 4;
}

int64_t list_room(int64_t vocab, int blocks) {
  const int64_t stride = int64_t{kThreads} * blocks;
  return (vocab + stride - 1) / stride * kThreads;
}

}  // namespace

int64_t device_sampling_scratch(const DeviceSamplingArgs& args, const Caps&) {
  const int64_t rows = std::min(args.logits.dim(0), kRowsAtOnce);
  return rows * kMostBlocks * list_room(args.vocab_limit, kMostBlocks) * static_cast<int64_t>(sizeof(Entry));
}

void device_sampling_cluster_select(const DeviceSamplingArgs& args, Context& context) {
  const int64_t R = args.logits.dim(0);
  const Arena::Scope scope(context.arena());
  const Tensor lists = context.arena().take(DType::u8, {device_sampling_scratch(args, context.caps())});
  for (int64_t first = 0; first < R; first += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, R - first);
    const int blocks = blocks_of_row(context.caps(), rows);
    const SelectParams params{.logits = args.logits.ptr<float>() + first * args.logits.stride(0),
                              .stride = args.logits.stride(0),
                              .vocab = args.vocab_limit,
                              .rows = static_cast<const DeviceSamplingRow*>(args.rows.data()) + first,
                              .entries = data_or_null<const DeviceTokenEntry>(args.entries),
                              .token_ids = data_or_null<const int32_t>(args.token_ids),
                              .tokens = args.tokens.ptr<int32_t>() + first,
                              .lists = static_cast<Entry*>(lists.data()),
                              .list_room = list_room(args.vocab_limit, blocks),
                              .blocks = blocks};
    cuda::launch(cluster_select,
                 {.grid = dim3(static_cast<unsigned>(rows * blocks)),
                  .block = dim3(kThreads),
                  .stream = context.stream().get(),
                  .cluster = blocks,
                  .pdl = has_pdl(context.caps())},
                 params);
  }
}

}  // namespace llamita
