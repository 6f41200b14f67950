// block_select: a block of 1024 threads a row, after cpu_select.cc. One pass finds the best token. Sampling
// then lists the tokens that may be chosen: with top-k those not below the k-th best of the threads' own
// maxima, with top-p those too heavy to be spared together. top-k, top-p and the final draw are all the same
// question: in which token, in a given order, does a running sum first reach a given value? Sums are
// integers, so it is answered by radix descent, three bits a pass, whatever the order of the list.
//
// A greedy row is one pass of V (about 5 us for 128k logits), a row with top-p three passes and some twenty
// short ones over the list.
#include "ops/cuda/launch.cuh"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/integer_weight.h"
#include "ops/sampling/philox.h"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int64_t kRowsAtOnce = 32;  // that share the scratch: 32 lists of V entries

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
  Entry* lists;  // (rows of the launch, vocab)
};

struct Shared {
  uint64_t sums[kWarps][8];
  uint64_t total;
  unsigned long long count;  // of the list
  uint32_t best_key[kWarps];
  int32_t best_token[kWarps];
  uint32_t digit;
  uint64_t above;
};

// +0 and -0 are equal logits.
__device__ __forceinline__ uint32_t key_of(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float logit_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

__device__ __forceinline__ uint64_t warp_sum_u64(uint64_t x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

// The sum over the block, in every thread.
__device__ uint64_t block_sum_u64(uint64_t x, Shared& s) {
  x = warp_sum_u64(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32][0] = x;
  __syncthreads();
  if (threadIdx.x < 32) {
    const uint64_t sum = warp_sum_u64(s.sums[threadIdx.x][0]);
    if (threadIdx.x == 0) s.total = sum;
  }
  __syncthreads();
  return s.total;
}

struct Reached {
  uint32_t key;
  uint64_t above;  // the sum of all with larger keys
};

// Largest keys first, in which key does the running sum of masses reach `wanted` (1 .. the sum of all)?
// visit(f) calls f(key, mass) for this thread's share; kTopShift: of the highest three bits.
template <int kTopShift, class Visit>
__device__ Reached descend(uint64_t wanted, Shared& s, const Visit& visit) {
  uint32_t prefix = 0;  // the bits that are known
  uint64_t above = 0;
  for (int shift = kTopShift; shift >= 0; shift -= 3) {
    uint64_t sums[8] = {};
    visit([&](uint32_t key, uint64_t mass) {
      // At the top all higher bits are zero, and a shift by 32 or more would not be defined.
      const bool same = shift + 3 >= 32 || key >> (shift + 3) == prefix;
      const uint32_t digit = key >> shift & 7;
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i)
        if (same && digit == i) sums[i] += mass;
    });
    __syncthreads();  // the sums of the pass before have been read
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint64_t sum = warp_sum_u64(sums[i]);
      if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32][i] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      uint64_t running = above;
      bool found = false;
      for (int i = 7; i >= 0; --i) {
        const uint64_t sum = warp_sum_u64(s.sums[threadIdx.x][i]);
        if (!found && running + sum >= wanted) {
          found = true;
          if (threadIdx.x == 0) {
            s.digit = static_cast<uint32_t>(i);
            s.above = running;
          }
        }
        running += sum;
      }
    }
    __syncthreads();
    prefix = prefix << 3 | s.digit;
    above = s.above;
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

__device__ void adjust(const SelectParams& p, const DeviceSamplingRow& row, float* logits) {
  if (row.bias_begin == row.bias_end && row.seen_begin == row.seen_end && row.late < 0) return;
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

__device__ Best find_best(const float* logits, int vocab, Shared& s) {
  uint32_t key = 0;
  int32_t token = INT32_MAX;
  bool broken = false;
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    const float logit = logits[i];
    broken |= !(logit < INFINITY);  // NaN too
    const uint32_t candidate = key_of(logit);
    if (logit > -INFINITY && candidate > key) {
      key = candidate;
      token = i;
    }
  }
  Best best{key, 0, -1};
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffff, key, step);
    const int32_t other_token = __shfl_xor_sync(0xffffffff, token, step);
    if (other > key || (other == key && other_token < token)) {
      key = other;
      token = other_token;
    }
  }
  if (threadIdx.x % 32 == 0) {
    s.best_key[threadIdx.x / 32] = key;
    s.best_token[threadIdx.x / 32] = token;
  }
  broken = __syncthreads_or(broken);
  key = 0;
  token = INT32_MAX;
  for (int w = 0; w < kWarps; ++w) {
    if (s.best_key[w] > key || (s.best_key[w] == key && s.best_token[w] < token)) {
      key = s.best_key[w];
      token = s.best_token[w];
    }
  }
  best.key = key;
  best.token = broken || token == INT32_MAX ? -1 : token;
  return best;
}

// The row's list in this thread's share.
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
__device__ void cut(const List& list, uint32_t border, uint64_t ties, Shared& s) {
  const Reached last = descend<kTokenShift>(ties, s, [&](const auto& f) {
    list.each([&](const Entry& e) {
      if (e.key == border) f(0xFFFFFFu - static_cast<uint32_t>(e.token), uint64_t{1});
    });
  });
  const auto last_token = static_cast<int32_t>(0xFFFFFFu - last.key);
  list.each([&](Entry& e) {
    if (e.key < border || (e.key == border && e.token > last_token)) e.token = -1;
  });
}

__device__ void keep_top_k(const List& list, uint64_t k, Shared& s) {
  uint64_t count = 0;
  list.each([&](const Entry&) { ++count; });
  if (block_sum_u64(count, s) <= k) return;
  const Reached at = descend<kKeyShift>(
      k, s, [&](const auto& f) { list.each([&](const Entry& e) { f(e.key, uint64_t{1}); }); });
  cut(list, at.key, k - at.above, s);
}

__device__ void keep_top_p(const List& list, uint64_t wanted, Shared& s) {
  const Reached at = descend<kKeyShift>(
      wanted, s, [&](const auto& f) { list.each([&](const Entry& e) { f(e.key, list.weight(e.key)); }); });
  const uint64_t weight = list.weight(at.key);
  cut(list, at.key, (wanted - at.above + weight - 1) / weight, s);
}

// Lists the tokens with at least this key and this weight.
__device__ void make_list(List& list, const float* logits, int vocab, uint32_t least_key,
                          uint64_t least_weight, Shared& s) {
  if (threadIdx.x == 0) s.count = 0;
  __syncthreads();
  const int rounds = (vocab + kThreads - 1) / kThreads;
  for (int round = 0; round < rounds; ++round) {
    const int token = round * kThreads + static_cast<int>(threadIdx.x);
    uint32_t key = 0;
    bool taken = false;
    if (token < vocab) {
      key = key_of(logits[token]);
      taken = key >= least_key && list.weight(key) >= least_weight;
    }
    const unsigned mask = __ballot_sync(0xffffffff, taken);
    if (mask == 0) continue;
    unsigned long long first = 0;
    if (threadIdx.x % 32 == 0) first = atomicAdd(&s.count, static_cast<unsigned long long>(__popc(mask)));
    first = __shfl_sync(0xffffffff, first, 0);
    const int before = __popc(mask & ((1u << threadIdx.x % 32) - 1));
    if (taken) list.entries[first + before] = {key, token};
  }
  __syncthreads();
  list.count = static_cast<int>(s.count);
}

__device__ int32_t draw(const List& list, uint64_t random, Shared& s) {
  uint64_t sum = 0;
  list.each([&](const Entry& e) { sum += list.weight(e.key); });
  const uint64_t rest = draw_below(block_sum_u64(sum, s), random);
  const Reached at = descend<kTokenShift>(rest + 1, s, [&](const auto& f) {
    list.each([&](const Entry& e) { f(0xFFFFFFu - static_cast<uint32_t>(e.token), list.weight(e.key)); });
  });
  return static_cast<int32_t>(0xFFFFFFu - at.key);
}

__device__ int32_t choose(const SelectParams& p, const DeviceSamplingRow& row, const float* logits,
                          Shared& s) {
  const Best best = find_best(logits, p.vocab, s);
  if (best.token < 0 || row.temperature == 0.0f) return best.token;
  List list{.entries = p.lists + int64_t{blockIdx.x} * p.vocab,
            .count = 0,
            .best = logit_of(best.key),
            .scale = __fdiv_rn(kLog2E, row.temperature)};
  const auto top_k = static_cast<uint64_t>(row.top_k);
  const bool has_top_k = row.top_k > 0 && row.top_k < p.vocab, has_top_p = row.top_p < 1.0f;
  uint32_t least_key = 0;
  uint64_t least_weight = 1, wanted = 0;
  if (has_top_k && row.top_k <= kThreads && row.top_k <= p.vocab) {
    // At least k tokens are not below the k-th best of the threads' maxima.
    least_key = descend<kKeyShift>(top_k, s, [&](const auto& f) { f(best.own_key, uint64_t{1}); }).key;
  } else if (!has_top_k && has_top_p) {
    uint64_t sum = 0, count = 0;
    for (int i = threadIdx.x; i < p.vocab; i += kThreads) {
      const uint64_t weight = list.weight(key_of(logits[i]));
      sum += weight;
      count += weight > 0;
    }
    const uint64_t total = block_sum_u64(sum, s);
    wanted = mass_to_keep(row.top_p, total);
    least_weight = (total - wanted) / block_sum_u64(count, s) + 1;  // the lighter ones can all be spared
  }
  make_list(list, logits, p.vocab, least_key, least_weight, s);
  if (has_top_k) {
    keep_top_k(list, top_k, s);
    if (has_top_p) {
      uint64_t sum = 0;
      list.each([&](const Entry& e) { sum += list.weight(e.key); });
      wanted = mass_to_keep(row.top_p, block_sum_u64(sum, s));
    }
  }
  if (has_top_p) keep_top_p(list, wanted, s);
  if (row.min_p > 0) {
    const uint64_t least = weight_to_keep(row.min_p);
    list.each([&](Entry& e) {
      if (list.weight(e.key) < least) e.token = -1;
    });
  }
  return draw(list, random_bits(row.seed, row.choice, row.position), s);
}

__global__ void __launch_bounds__(kThreads) block_select(const __grid_constant__ SelectParams p) {
  __shared__ Shared s;
  device::wait_for_predecessor();
  device::start_successor();
  const DeviceSamplingRow row = p.rows[blockIdx.x];
  float* logits = p.logits + blockIdx.x * p.stride;
  adjust(p, row, logits);
  const int32_t token = choose(p, row, logits, s);
  if (threadIdx.x != 0) return;
  p.tokens[blockIdx.x] = token;
  if (row.copy != nullptr) *row.copy = token;
}

}  // namespace

int64_t device_sampling_scratch(const DeviceSamplingArgs& args, const Caps&) {
  return std::min(args.logits.dim(0), kRowsAtOnce) * args.vocab_limit * static_cast<int64_t>(sizeof(Entry));
}

void device_sampling_block_select(const DeviceSamplingArgs& args, Context& context) {
  const int64_t R = args.logits.dim(0);
  const Arena::Scope scope(context.arena());
  const Tensor lists = context.arena().take(DType::u8, {device_sampling_scratch(args, context.caps())});
  for (int64_t first = 0; first < R; first += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, R - first);
    const SelectParams params{.logits = args.logits.ptr<float>() + first * args.logits.stride(0),
                              .stride = args.logits.stride(0),
                              .vocab = args.vocab_limit,
                              .rows = static_cast<const DeviceSamplingRow*>(args.rows.data()) + first,
                              .entries = data_or_null<const DeviceTokenEntry>(args.entries),
                              .token_ids = data_or_null<const int32_t>(args.token_ids),
                              .tokens = args.tokens.ptr<int32_t>() + first,
                              .lists = static_cast<Entry*>(lists.data())};
    launch(context, block_select, dim3(static_cast<unsigned>(rows)), kThreads, 0, params);
  }
}

}  // namespace llamita
