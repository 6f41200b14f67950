// A row of logits as cluster_select reads it: how it is cut, the one pass that summarises it, and what every
// step after that needs.
#pragma once

#include <cfloat>
#include <cstddef>

#include "hw/cuda/device/ptx/cache.cuh"
#include "hw/cuda/device/ptx/math.cuh"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/integer_weight.h"
#include "ops/sampling/select_team.cuh"

namespace llamita::select {

inline constexpr int kRound = 128;              // tokens of a warp: four a lane
inline constexpr int kQuad = 4 * kRound;        // loaded at once
inline constexpr int kStride = kWarps * kQuad;  // of a block
inline constexpr int kMostChunks = 20;          // of a lane: 80 KB of a block, two blocks a multiprocessor
inline constexpr int kListRoom = 512;           // tokens that one block chooses from
inline constexpr int kLog2Bins = 11, kBins = 1 << kLog2Bins;
inline constexpr uint32_t kMostExponent = uint32_t{kWeightBits} << 24;

// How a row is cut. A block has consecutive tokens, which its warps take in turns: 512 tokens, 16 a lane.
struct Cut {
  int blocks;        // of a row, a power of two
  int block_tokens;  // a multiple of kRound
  int chunk_quads;   // a chunk is so many times 16 tokens of a lane
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

struct Range {
  int begin, end;
};

// What a block tells the first one of its list. Light tokens are not in it.
struct ListHead {
  uint64_t count;
  uint64_t light;  // a double's bits: their mass, in units of the best token's weight
};

struct alignas(16) Item {
  uint64_t order;  // the larger, the better: the logit's key, then the lower token
  uint64_t weight;
};

struct Border {
  uint32_t value;
  uint64_t above;  // the sum of all with larger values
  uint64_t mass;   // of those with this value
  uint64_t total;
};

struct Shared {
  // Of choices among few tokens, or among all.
  union {
    struct {
      Item items[kListRoom], kept[kListRoom];
    };
    uint16_t chunks[kListRoom];  // that have tokens of the list
    uint64_t bins[kBins];        // low and high word
  };
  DeviceSamplingRow row;
  TeamShared team;
  uint64_t best_full;  // mbarrier: bests of all blocks are here
  uint64_t bests[kThreads];
  uint64_t list_full;  // mbarrier: the lists of all blocks are here
  ListHead heads[kMostBlocks];
  uint64_t scan[kWarps];
  float light[kWarps];
  uint32_t keys[kWarps];
  int chunk_count;
  int count;     // of the block's list
  bool unclear;  // what is to be kept of it
  uint64_t total;
  uint64_t random;
  Border border;
};

struct Parts {
  Shared& s;
  float* chunk_best;  // (chunks, kThreads)
  float* chunk_mass;  // (chunks, kThreads)
  uint64_t* lists;    // (blocks, kListRoom), a logit's bits and a token; used in the first block
};

__device__ __forceinline__ Parts parts_of(uint8_t* smem, int chunks) {
  auto& s = *reinterpret_cast<Shared*>(smem);
  auto* best = reinterpret_cast<float*>(smem + sizeof(Shared));
  auto* mass = best + chunks * kThreads;
  return {s, best, mass, reinterpret_cast<uint64_t*>(mass + chunks * kThreads)};
}
inline size_t smem_of(const Cut& cut) {
  return sizeof(Shared) + static_cast<size_t>(cut.chunks) * kThreads * 2 * sizeof(float) +
         static_cast<size_t>(cut.blocks) * kListRoom * sizeof(uint64_t);
}

// +0 and -0 are equal logits. NaN has the largest key.
inline constexpr uint32_t kInfinityKey = 0xFF800000u, kMinusInfinityKey = 0x007FFFFFu;
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
  // Below the best token, in powers of two.
  __device__ __forceinline__ float distance(float logit) const { return (best - logit) * scale; }
};

// What the steps of one row's choice have in common.
struct RowTask {
  const SelectParams& p;
  const DeviceSamplingRow& row;
  Parts parts;  // a copy: what has an address would be read from local memory, and as if it lay anywhere
  const float* logits;
  Range own;  // the block's tokens
  unsigned index;
  Scale scale;
  bool has_top_k, has_top_p;

  __device__ __forceinline__ void emit(int32_t token) const {
    p.tokens[index] = token;
    if (row.copy != nullptr) *row.copy = token;
  }
};

// Four tokens; what is not below `end` is minus infinity.
__device__ __forceinline__ float4 load_four(const SelectParams& p, const float* logits, int token, int end) {
  if (p.aligned && token + 4 <= end) return *reinterpret_cast<const float4*>(logits + token);
  return {token < end ? logits[token] : -INFINITY, token + 1 < end ? logits[token + 1] : -INFINITY,
          token + 2 < end ? logits[token + 2] : -INFINITY, token + 3 < end ? logits[token + 3] : -INFINITY};
}

// The lane's of the 128 from `base` on.
__device__ __forceinline__ float4 load_round(const SelectParams& p, const float* logits, int base, int end) {
  return load_four(p, logits, base + static_cast<int>(threadIdx.x) % 32 * 4, end);
}

// Its 16 of the 512.
__device__ __forceinline__ void load_quad(const SelectParams& p, const float* logits, int base, int end,
                                          float4 (&x)[4]) {
  if (p.aligned && base + kQuad <= end) {
    const auto* from = reinterpret_cast<const float4*>(logits + base) + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = from[i * kRound / 4];
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = load_round(p, logits, base + i * kRound, end);
}

// f(logit, token) for the lane's 16 of them, last first.
template <class F>
__device__ __forceinline__ void for_quad(const float4 (&x)[4], int base, const F& f) {
  const int token = base + static_cast<int>(threadIdx.x) % 32 * 4;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    f(x[i].w, token + i * kRound + 3);
    f(x[i].z, token + i * kRound + 2);
    f(x[i].y, token + i * kRound + 1);
    f(x[i].x, token + i * kRound);
  }
}

__device__ __forceinline__ int first_base(const Range& own) {
  return own.begin + static_cast<int>(threadIdx.x) / 32 * kQuad;
}

// Asks for the block's first tokens.
__device__ __forceinline__ void prefetch_first(const float* logits, const Range& own) {
  constexpr int kLine = 128 / sizeof(float);
  const int token = first_base(own) + static_cast<int>(threadIdx.x) % 32 * kLine;
  if (threadIdx.x % 32 < kQuad / kLine && token < own.end) ptx::prefetch_line(logits + token);
}

__device__ __forceinline__ void penalise(const DeviceSamplingRow& row, float in_reply, float& logit) {
  float x = logit;
  x = x > 0 ? __fdiv_rn(x, row.repetition_penalty) : __fmul_rn(x, row.repetition_penalty);
  if (in_reply != 0)
    x = __fsub_rn(__fsub_rn(x, __fmul_rn(row.frequency_penalty, in_reply)), row.presence_penalty);
  logit = x;
}

// Each block changes the logits that it reads.
__device__ inline void adjust(const SelectParams& p, const DeviceSamplingRow& row, float* logits, Range own) {
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

struct Best {
  float logit;  // NaN if there is one
  int token;    // the lowest; of greedy rows
};

__device__ __forceinline__ float best_of(const float4 (&x)[4], float best) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    best = ptx::max_or_nan(best,
                           ptx::max_or_nan(ptx::max_or_nan(x[i].x, x[i].y), ptx::max_or_nan(x[i].z, x[i].w)));
  return best;
}

// The pass over the logits: the lane's best and, of rows that sample, the best of each chunk and its mass, a
// sum of approximate 2^x. `scale` is 0 for greedy rows; `first` are the first tokens.
__device__ __forceinline__ Best summarise(const SelectParams& p, const float* logits, Range own, float scale,
                                          const Parts& parts, float4 (&first)[4]) {
  Best best{-INFINITY, 0};
  float chunk_best = -INFINITY, mass = 0;
  int base = first_base(own), chunk = static_cast<int>(threadIdx.x), quads = 0;
  const auto keep_chunk = [&] {
    parts.chunk_best[chunk] = chunk_best;
    parts.chunk_mass[chunk] = mass;
    chunk += kThreads;
    chunk_best = -INFINITY;
    mass = 0;
    quads = 0;
  };
  const auto take = [&](const float4(&x)[4], float4(&next)[4]) {
    if (base + kStride < own.end) load_quad(p, logits, base + kStride, own.end, next);
    const float quad_best = best_of(x, chunk_best);
    best.logit = ptx::max_or_nan(best.logit, quad_best);
    if (scale != 0) {
      const float from = fmaxf(quad_best, -FLT_MAX);  // minus infinity has no difference to itself
      const auto part = [&](float logit) { return ptx::exp2_approx((logit - from) * scale); };
      float sums[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = (part(x[i].x) + part(x[i].y)) + (part(x[i].z) + part(x[i].w));
      mass = mass * part(chunk_best) + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
      chunk_best = quad_best;
      if (++quads == p.cut.chunk_quads) keep_chunk();
    } else if (quad_best > chunk_best) {  // which is the best so far
      for_quad(x, base, [&](float logit, int token) {
        if (logit == quad_best) best.token = token;
      });
      chunk_best = quad_best;
    }
    base += kStride;
  };
  // One quad is under way while another is taken.
  float4 second[4];
  while (base < own.end) {
    take(first, second);
    if (base < own.end) take(second, first);
  }
  if (scale != 0)  // what the end of the row has cut or left empty
    while (chunk < p.cut.chunks * kThreads) keep_chunk();
  return best;
}

}  // namespace llamita::select
