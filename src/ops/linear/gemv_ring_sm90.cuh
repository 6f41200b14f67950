// gemv_ring: the product of gemv.cuh on Hopper, for up to eight tokens and weights of 16 bits: out(T, N) =
// x(T, K) W(N, K)^T with W streamed once through rings in shared memory.
//
// Why a ring: a decode step is a chain of kernels of 3 to 40 us, and what costs is the time in which no
// weight is under way: the last sums of one kernel, its end, the start of the next, the activations' way from
// L2. Weights depend on nothing, so each kernel asks for a ring full of them before it waits for its
// predecessor. What is under way lies in shared memory, not in registers.
//
// Two rings a multiprocessor, so that the successor's block starts beside ours, were measured and lost:
// blocks then go where room is, two on one multiprocessor and none on another, and a layer of llama-3.2-3b
// took 105 us instead of 90. A block takes more than half the shared memory, so that each multiprocessor
// has one.
//
// The weights are evicted from L2 first: else each layer's stream pushes out the cache's pages, the norms and
// the code that the next kernels wait for (114 us a layer instead of 105).
//
// Block: one a multiprocessor, with an equal share of consecutive row pairs (the two rows that an epilogue
// wants in one thread), as tiles of up to eight pairs. Each of eight warps has a ring of its own and meets
// nobody: of every slice of 512 elements it fetches the 64 that it multiplies (cp.async, 128 bytes of each of
// 16 rows), with m16n8k16 as in gemv.cuh. k is summed in that order within a warp, and the warps' sums in
// ascending order, whatever the grid and the number of tokens. (A norm before it: gemv_tokens.cuh.)
//
// One producer warp with bulk copies of 1 KB a row was measured first and gave 80 % of the read roof on large
// matrices: the copy instruction takes its operands from uniform registers, so a warp issues sixteen of them
// one after the other.
//
// Shared memory: sums of two tiles | rings | tokens. A stage is 16 rows of 128 bytes; the 16-byte units of
// row r are permuted by (r % 2) * 4 + r / 2 % 4, so that the eight rows of a fragment lie in different banks.
//
// Plan: what the block does, with
//   RowPair rows_of_pair(pair)            where the rows lie
//   store_pair(pair, token, low, high)    their sums; called for tokens < tokens
#pragma once

#include "hw/cuda/device/ptx/cache.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "ops/linear/gemv_tokens.cuh"

namespace llamita::device {

inline constexpr int kRingWarps = 8;
inline constexpr int kRingThreads = 32 * kRingWarps;
inline constexpr int kRingPairs = 8;
inline constexpr int kRingTokens = 8;
inline constexpr int kRingChunks = 2;  // of 32 elements, a warp's part of a slice
inline constexpr int kRingSlice = 32 * kRingChunks * kRingWarps;
inline constexpr int kRingStages = 5;
inline constexpr int kRingRowBytes = 64 * kRingChunks;
inline constexpr int kRingStageBytes = 2 * kRingPairs * kRingRowBytes;  // of one warp
static_assert(kRingRowBytes == 128, "eight lanes fetch a row, and the permutation is one of eight units");

// What every plan's kernel gets beside its plan.
struct RingShape {
  int pairs, K, tokens;
  bool staged;  // x goes through shared memory
};

struct RingShared {
  float team_sums[kRingWarps];
  float4 sums[2][kRingWarps][32];
  uint8_t ring[kRingWarps][kRingStages][kRingStageBytes];
};

// The pairs of this block.
struct RingShare {
  int first, pairs, tiles;

  __device__ __forceinline__ explicit RingShare(int all) {
    const int64_t block = blockIdx.x, blocks = gridDim.x;
    first = static_cast<int>(all * block / blocks);
    pairs = static_cast<int>(all * (block + 1) / blocks) - first;
    tiles = (pairs + kRingPairs - 1) / kRingPairs;
  }
  // Of a tile; the pairs are dealt evenly. begin(tiles) is the end.
  __device__ __forceinline__ int begin(int tile) const { return first + pairs * tile / tiles; }
};

// Byte of 16-byte unit `unit` of a stage's row.
__device__ __forceinline__ int ring_offset(int row, int unit) {
  return row * kRingRowBytes + ((unit ^ (row % 2 * 4 + row / 2 % 4)) * 16);
}

// A warp's walk over its weights, slice by slice and tile by tile, as it asks for them. Eight lanes a row,
// four rows an instruction: of low rows l / 8 and l / 8 + 4, then of the high rows.
template <class Plan>
class RingFetch {
 public:
  __device__ __forceinline__ RingFetch(const Plan& plan, const RingShape& shape, const RingShare& share)
      : plan_(plan), share_(share), policy_(ptx::policy_evict_first()), K_(shape.K) {
    element_ = first_element();
    find_rows();
  }

  // Asks for the next slice, if there is one.
  __device__ __forceinline__ void next(uint8_t* stage) {
    if (tile_ >= share_.tiles) return;
    const int row = static_cast<int>(threadIdx.x) % 32 / 8, unit = threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (rows_[i] != nullptr && element_ < K_)
        ptx::cp_async_16(stage + ring_offset(row + 4 * i, unit), rows_[i] + 2 * element_, policy_);
    advance();
  }

 private:
  __device__ __forceinline__ static int first_element() {
    return static_cast<int>(threadIdx.x) / 32 * 32 * kRingChunks + static_cast<int>(threadIdx.x) % 8 * 8;
  }
  __device__ __forceinline__ void advance() {
    element_ += kRingSlice;
    if (element_ - first_element() < K_) return;
    element_ = first_element();
    if (++tile_ < share_.tiles) find_rows();
  }
  __device__ __forceinline__ void find_rows() {
    const int begin = share_.begin(tile_), count = share_.begin(tile_ + 1) - begin;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int pair = static_cast<int>(threadIdx.x) % 32 / 8 + 4 * i;
      const RowPair rows = pair < count ? plan_.rows_of_pair(begin + pair) : RowPair{nullptr, nullptr};
      rows_[i] = rows.low;
      rows_[i + 2] = rows.high;
    }
  }

  const Plan& plan_;
  const RingShare& share_;
  uint64_t policy_;
  int K_;
  int tile_ = 0, element_;
  const uint8_t* rows_[4];
};

// What a warp multiplies of a slice, in registers.
template <class Element>
struct RingSlice {
  uint4 low[kRingChunks], high[kRingChunks], x[kRingChunks][1];

  __device__ __forceinline__ void load_tokens(const GemvInput<Element>& input, int slice, int warp, int g,
                                              int q) {
#pragma unroll
    for (int c = 0; c < kRingChunks; ++c)
      device::load_tokens<Element, false>(x[c], input, chunk(slice, warp, c), g, q);
  }
  // What lies beyond K was not fetched and may be NaN.
  __device__ __forceinline__ void load_weights(const uint8_t* stage, int K, int slice, int warp, int g,
                                               int q) {
#pragma unroll
    for (int c = 0; c < kRingChunks; ++c) {
      const bool inside = 32 * chunk(slice, warp, c) + 8 * q < K;
      const auto at = [&](int row) {
        return inside ? *reinterpret_cast<const uint4*>(stage + ring_offset(row, 4 * c + q))
                      : uint4{0, 0, 0, 0};
      };
      low[c] = at(g);
      high[c] = at(g + kRingPairs);
    }
  }
  __device__ __forceinline__ void multiply(float (&d)[kRingChunks][4]) const {
#pragma unroll
    for (int c = 0; c < kRingChunks; ++c) multiply_chunk<Element>(d[c], low[c], high[c], x[c][0]);
  }

 private:
  __device__ __forceinline__ static int chunk(int slice, int warp, int c) {
    return (slice * kRingWarps + warp) * kRingChunks + c;
  }
};

// Adds the warps' sums of a tile and hands them to the plan, by another warp each tile.
template <class Plan>
__device__ __forceinline__ void finish_pairs(const Plan& plan, const RingShape& shape, int begin, int count,
                                             int tile, const float (&d)[kRingChunks][4], RingShared& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  // Two buffers: a warp may write the next tile's sums while another still adds these; it cannot be two
  // ahead.
  float4(&sums)[kRingWarps][32] = s.sums[tile % 2];
  sums[warp][lane] = {d[0][0] + d[1][0], d[0][1] + d[1][1], d[0][2] + d[1][2], d[0][3] + d[1][3]};
  __syncthreads();
  if (warp != tile % kRingWarps) return;
  float4 sum = {0, 0, 0, 0};
#pragma unroll
  for (int w = 0; w < kRingWarps; ++w) {
    const float4 part = sums[w][lane];
    sum.x += part.x;
    sum.y += part.y;
    sum.z += part.z;
    sum.w += part.w;
  }
  const int token = lane % 4 * 2;
  if (g >= count) return;
  if (token < shape.tokens) plan.store_pair(begin + g, token, sum.x, sum.z);
  if (token + 1 < shape.tokens) plan.store_pair(begin + g, token + 1, sum.y, sum.w);
}

// The whole kernel. `stage(to, shared)` waits for the predecessor and brings the tokens to shared memory.
template <class Element, class Plan, class Stage>
__device__ __forceinline__ void gemv_ring(const Plan& plan, const RingShape& shape, uint8_t* smem,
                                          const GemvInput<Element>& unstaged, Stage stage) {
  auto& s = *reinterpret_cast<RingShared*>(smem);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const RingShare share(shape.pairs);
  const int slices = (shape.K + kRingSlice - 1) / kRingSlice;
  start_successor();

  RingFetch<Plan> fetch(plan, shape, share);
#pragma unroll 1
  for (int i = 0; i < kRingStages; ++i) {
    fetch.next(s.ring[warp][i]);
    ptx::cp_async_commit();
  }

  GemvInput<Element> input = unstaged;
  if (shape.staged) {
    auto* staged = reinterpret_cast<Element*>(smem + sizeof(RingShared));
    stage(staged, s);
    __syncthreads();
    input = {staged, staged_stride(shape.K), shape.tokens, shape.K};
  } else {
    wait_for_predecessor();
  }

  int at = 0;
  for (int tile = 0; tile < share.tiles; ++tile) {
    float d[kRingChunks][4] = {};
    for (int slice = 0; slice < slices; ++slice) {
      RingSlice<Element> part;
      part.load_tokens(input, slice, warp, g, q);  // before the wait: they may come from L2
      ptx::cp_async_wait<kRingStages - 1>();
      __syncwarp();  // the lanes' pieces, to all lanes
      part.load_weights(s.ring[warp][at], shape.K, slice, warp, g, q);
      __syncwarp();  // all have what they multiply: the stage is free
      fetch.next(s.ring[warp][at]);
      ptx::cp_async_commit();
      if (++at == kRingStages) at = 0;
      part.multiply(d);
    }
    const int begin = share.begin(tile);
    finish_pairs(plan, shape, begin, share.begin(tile + 1) - begin, tile, d, s);
  }
}

}  // namespace llamita::device

namespace llamita {

// Host side.

// What normed tokens may take beside the rings.
inline constexpr int64_t kRingMostStaged = 227 * 1024 - static_cast<int64_t>(sizeof(device::RingShared));

// Vectors of four.
template <class Args>
bool gemv_ring_reads_norm(const Args& args) {
  const auto aligned = [](const Tensor& t) {
    return !t.defined() || reinterpret_cast<uintptr_t>(t.data()) % 16 == 0;
  };
  return aligned(args.x) && args.x.stride(0) % 4 == 0 && aligned(args.norm_weight) && aligned(args.norm_bias);
}

// Weights of `activation` alone, in rows of whole 16 bytes; up to eight tokens.
inline bool gemv_ring_supports(const quant::Weight& weight, int64_t tokens, DType activation,
                               const Caps& caps) {
  if (!has_pdl(caps) || tokens > device::kRingTokens || !gemv_supports_weight(weight)) return false;
  if (activation == DType::f32 || weight.parts.empty() || weight.cols == 0) return false;
  return gemv_is_dense(weight, activation) &&
         std::all_of(weight.parts.begin(), weight.parts.end(), [](const quant::Part& part) {
           return reinterpret_cast<uintptr_t>(part.storage.data()) % 16 == 0;
         });
}

// Tokens that do not fit beside the rings stay in global memory, if they may.
inline device::RingShape gemv_ring_shape(int64_t pairs, int64_t tokens, int64_t K, bool must_stage) {
  return {.pairs = static_cast<int>(pairs),
          .K = static_cast<int>(K),
          .tokens = static_cast<int>(tokens),
          .staged = must_stage || gemv_staged_bytes(tokens, K) <= kRingMostStaged};
}

// More than half of what a multiprocessor has, so that it holds one block.
inline constexpr size_t kRingLeastSmem = 118 * 1024;

inline size_t gemv_ring_smem(const device::RingShape& shape) {
  const size_t staged = shape.staged ? static_cast<size_t>(gemv_staged_bytes(shape.tokens, shape.K)) : 0;
  return std::max(sizeof(device::RingShared) + staged, kRingLeastSmem);
}

inline unsigned gemv_ring_grid(const Caps& caps, int64_t pairs) {
  return static_cast<unsigned>(std::min<int64_t>(pairs, std::max(caps.sm_count, 1)));
}

}  // namespace llamita
