// The skinny Hopper product of decode: out(M, N) = x(M, K) w(N, K)^T for up to 128 tokens. Bound by the
// stream of w, and from 64 tokens on by L2, which gives every block its own x. The roles are swapped: rows of
// w fill the fixed side of wgmma, 64 at a time, and the tokens are its free side, so that nothing is padded
// but the tokens to 16, 32, 64 or 128. linear, attn_in and mlp_in are this kernel with their epilogues.
//
// Block: a warpgroup that multiplies, and a producer warp each for w and for x with a ring of its own. A tile
// is 64 or 128 rows, half of them the partners of the others where outputs are made of pairs; a stage is 64
// elements of K of a tile or of all tokens.
// A block has one tile. Two blocks share a multiprocessor, and as those of one kernel end, those of the next
// take their places and fill their rings with weights. So the ring of w is as deep as memory allows, that of
// x as shallow as its latency from L2 allows. Both queue in one copy engine: no more than 32 KB of a block's
// w are asked for and not there yet, or x waits behind w. Blocks that share x through a cluster gain nothing.
//
// Split K: where there are fewer tiles than places, a cluster shares a tile; block r of R multiplies stages
// [S r / R, S (r + 1) / R) and finishes every R-th group of eight tokens. The others push their sums of those
// into the place of its ring, once it says that it needs the ring no more. Clusters must not need all places,
// or they wait for whole groups of multiprocessors to empty (256 blocks in clusters of 4 took twice as long
// as 192). Adding up through L2 instead, by the block that arrives last, took 2 to 6 us. Reduction order: K
// ascending inside a part, then the parts in ascending order. The parts depend on N, K, the card and the tile
// of tokens: a token's result does not depend on the tokens beside it, within one tile of tokens.
//
// The epilogue is one short loop over four outputs at a time, from sums that pass through shared memory in
// any case: unrolled over a thread's sums its code was fetched for one use, 30 us a product.
//
// A prepared norm of x (norm/prepared_norm.h) is one factor a token, which a warp of its own finds while the
// others multiply, so that it is in nobody's way.
//
// PDL: w does not wait for the predecessor, x does. The successor is let in when a block's last weights are
// about to be asked for: earlier it would only compete for memory.
#pragma once

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/cluster_store.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/ptx/wgmma_mma_narrow.cuh"
#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/device/tile_order.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/cuda/element.cuh"
#include "ops/linear/skinny_sm90.h"

namespace llamita::skinny_sm90_detail {

constexpr int kRows = 64;  // of w in one wgmma
constexpr int kDepth = 64;
constexpr int kConsumers = 128;
constexpr int kThreads = kConsumers + 2 * 32;
constexpr int kNormThreads = 32;  // more, where x has a prepared norm
// Two blocks a multiprocessor: half of its 228 KB less what the system and the barriers take.
constexpr int kSharedBytes = 110 * 1024;
constexpr int kUnderWayBytes = 32 * 1024;  // of w

// Epilogue: what becomes of a tile's sums.
//   kPairs: firsts fill the first half of a tile's rows, seconds the other.
//
//   kReadsAhead: quads whose reads are under way at a time, from before the multiplies on; 0 where it reads
//   nothing.
//
//   read(row, token) gives Reads, what put() wants for a quad; called where kReadsAhead is not 0.
//
//   put(row, token, first, second, reads): a quad, four rows of outputs (pairs) from `row` of all on;
//   `second` of pairs only.
template <class ElementType, int kTokenCount, int kBlockCount, class EpilogueType>
struct Config {
  using Element = ElementType;
  using Epilogue = EpilogueType;
  static constexpr int kTokens = kTokenCount;
  static constexpr int kBlocks = kBlockCount;  // of 64 rows in a tile
  static constexpr int kSums = kTokens / 2;    // of a thread and block
  static constexpr int kTileRows = kRows * kBlocks;
  static constexpr int kOutRows = Epilogue::kPairs ? kTileRows / 2 : kTileRows;
  static constexpr int kGroups = kTokens / 8;  // of eight tokens
  static constexpr int kBytesW = kTileRows * device::kSwizzleRowBytes;
  static constexpr int kBytesX = kTokens * device::kSwizzleRowBytes;
  // Of x: at 64 tokens and rows one less is 10 % to 20 % slower.
  static constexpr int kStagesX = kTokens == 64 ? (kBlocks == 1 ? 4 : 3) : kSharedBytes / (kBytesW + kBytesX);
  static constexpr int kStagesW = (kSharedBytes - kStagesX * kBytesX) / kBytesW;
  static constexpr int kUnderWay = kUnderWayBytes / kBytesW;
  static constexpr int kRingBytes = kStagesW * kBytesW + kStagesX * kBytesX;
  // Four floats more than the rows: then the threads of a warp that write sums meet 32 banks.
  static constexpr int kSumsStride = kTileRows + 4;
  static_assert(kStagesX >= 3 && kStagesW > kUnderWay);
  // Groups and blocks that other parts push: the most, (split - 1) ceil(groups / split), is at a split of 6
  // or 8.
  static constexpr int kMostPushed = kBlocks * (kGroups < 8 ? 7 : kGroups < 16 ? 10 : 15);
  static_assert(kTokens * kSumsStride * 4 <= kRingBytes);
  static_assert(kTokens / 2 * kSumsStride * 4 + kMostPushed * kConsumers * 16 <= kRingBytes);
};

// How a tile's rows lie in w. Without pairs: one after the other. Pair i's first is row i / run_pairs *
// run_rows + i % run_pairs, its second `second_step` rows further in the second matrix. Boxes do not cross a
// run's end.
struct Layout {
  int box_rows = kRows;
  device::Divider run_pairs{INT32_MAX};
  int run_rows = 0;
  int second_step = 0;
};

constexpr int kMostParts = 8;

struct Cut {
  int split;                  // blocks of a cluster, which share a tile
  device::Divider blocks;     // the same
  int begin[kMostParts + 1];  // of each part of K, in stages

  Cut() = default;
  Cut(int stages, int split) : split(split), blocks(split) {
    for (int part = 0; part <= split; ++part) begin[part] = stages * part / split;
  }
};

template <class C>
struct Params {
  CUtensorMap w[2];  // (N, K) of firsts and seconds, box (box_rows, 64)
  CUtensorMap x;     // (M, K), box (tokens, 64)
  Layout layout;
  Cut cut;
  int tokens;       // M
  SkinnyNorm norm;  // of x
  typename C::Epilogue epilogue;
};

// Sums take the place of the rings: those that other parts push, of each part, block of 64 rows and own group
// of tokens as a thread holds them; and finished ones, a token's rows in a line.
template <class C>
struct Storage {
  union {
    struct {
      uint8_t w[C::kStagesW][C::kBytesW];
      uint8_t x[C::kStagesX][C::kBytesX];
    };
    float sums[C::kTokens][C::kSumsStride];
    struct {
      float own_sums[C::kTokens / 2][C::kSumsStride];
      float4 pushed[C::kMostPushed][kConsumers];
    };
  };
  float inverse_rms[C::kTokens];
  device::Ring<C::kStagesW> ring_w;
  device::Ring<C::kStagesX> ring_x;
  uint64_t rings_free;  // the other parts' rings
  uint64_t arrived;     // what they pushed
  uint64_t norms_known;
};

// A block's tile and its part of K.
struct Share {
  int tile, part, begin, count;

  __device__ __forceinline__ explicit Share(const Cut& cut) {
    part = cut.split > 1 ? static_cast<int>(ptx::cluster_rank()) : 0;
    tile = cut.blocks.quotient(static_cast<int>(blockIdx.x));
    begin = cut.begin[part];
    count = cut.begin[part + 1] - begin;
  }
};

template <class C>
__device__ __forceinline__ void load_w(const Params<C>& p, Storage<C>& s, uint32_t stage, int tile, int at) {
  uint64_t* full = &s.ring_w.full[stage];
  if constexpr (!C::Epilogue::kPairs) {
    ptx::tma_load_2d(s.w[stage], &p.w[0], at * kDepth, tile * C::kTileRows, full);
  } else {
    for (int box = 0; box < C::kOutRows; box += p.layout.box_rows) {
      const int pair = tile * C::kOutRows + box;
      const int run = p.layout.run_pairs.quotient(pair);
      const int row = run * p.layout.run_rows + pair - run * p.layout.run_pairs.by();
      uint8_t* to = s.w[stage] + box * device::kSwizzleRowBytes;
      ptx::tma_load_2d(to, &p.w[0], at * kDepth, row, full);
      ptx::tma_load_2d(to + C::kOutRows * device::kSwizzleRowBytes, &p.w[1], at * kDepth,
                       row + p.layout.second_step, full);
    }
  }
}

// Asks for w step by step, of which kUnderWay at most are under way, and lets the successor in as many before
// the last.
template <class C>
struct ProducerW {
  device::RingCursor<C::kStagesW> at, landed;
  int step = 0;

  __device__ __forceinline__ void run_to(int end, const Params<C>& p, Storage<C>& s, const Share& share) {
    const int lets_in = max(share.count - 1 - C::kUnderWay, 0);
    for (; step < end; ++step, at.advance()) {
      if (step >= C::kUnderWay) {
        s.ring_w.wait_full(landed);
        landed.advance();
      }
      s.ring_w.acquire(at, C::kBytesW);
      load_w<C>(p, s, at.stage(), share.tile, share.begin + step);
      if (step == lets_in) ptx::grid_launch_dependents();
    }
  }
};

template <class C>
__device__ __forceinline__ void produce_x(const Params<C>& p, Storage<C>& s, const Share& share) {
  ptx::grid_dependency_wait();
  device::RingCursor<C::kStagesX> at;
  for (int step = 0; step < share.count; ++step, at.advance()) {
    s.ring_x.acquire(at, C::kBytesX);
    ptx::tma_load_2d(s.x[at.stage()], &p.x, (share.begin + step) * kDepth, 0, &s.ring_x.full[at.stage()]);
  }
}

// A lane has every 32nd token; of 16, two lanes share a token's runs, one the even ones. Many reads are under
// way at once: what is not there is read again and not added, for behind a branch each read would wait for
// the one before. They pass through L1: all blocks of a kernel read the same few lines of L2.
template <class C>
__device__ __forceinline__ void find_norms(const Params<C>& p, Storage<C>& s) {
  constexpr int kSharers = C::kTokens < kNormThreads ? kNormThreads / C::kTokens : 1;
  constexpr int kOwn = C::kTokens * kSharers / kNormThreads, kAtOnce = 16 / kOwn;
  const int lane = static_cast<int>(threadIdx.x) % kNormThreads;
  const int first_token = lane % C::kTokens, first_run = lane / C::kTokens;
  const int last_token = p.tokens - 1, last_run = p.norm.runs - 1;
  ptx::grid_dependency_wait();
  float squares[kOwn] = {};
#pragma unroll 1
  for (int begin = first_run; begin <= last_run; begin += kAtOnce * kSharers) {
    float some[kAtOnce][kOwn];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
#pragma unroll
      for (int j = 0; j < kOwn; ++j)
        some[i][j] = p.norm.squares[min(begin + i * kSharers, last_run) * p.tokens +
                                    min(first_token + j * kNormThreads, last_token)];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
#pragma unroll
      for (int j = 0; j < kOwn; ++j) squares[j] += begin + i * kSharers <= last_run ? some[i][j] : 0;
  }
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    if (kSharers == 2) squares[j] += __shfl_xor_sync(0xffffffff, squares[j], C::kTokens);
    const int token = first_token + j * kNormThreads;
    s.inverse_rms[token] = 1.0f / (p.norm.share * sqrtf(squares[j] / p.norm.columns + p.norm.eps));
  }
  ptx::mbarrier_arrive(&s.norms_known);
}

__device__ __forceinline__ float4 times(float4 v, float factor) {
  return {v.x * factor, v.y * factor, v.z * factor, v.w * factor};
}

template <class C>
__device__ __forceinline__ void multiply(Storage<C>& s, const Share& share,
                                         float (&sum)[C::kBlocks][C::kSums]) {
  const int lane = threadIdx.x % 32;
  device::RingCursor<C::kStagesW> at_w;
  device::RingCursor<C::kStagesX> at_x;
  uint32_t former_w = 0, former_x = 0;
  for (int i = 0; i < share.count; ++i, at_w.advance(), at_x.advance()) {
    s.ring_w.wait_full(at_w);
    s.ring_x.wait_full(at_x);
    ptx::wgmma_fence();
#pragma unroll
    for (int block = 0; block < C::kBlocks; ++block)
      device::wgmma_k64<typename C::Element, C::kTokens>(
          sum[block], device::wgmma_descriptor(s.w[at_w.stage()]) + block * device::kDescriptor64Rows,
          device::wgmma_descriptor(s.x[at_x.stage()]), i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (i > 0 && lane == 0) {
      s.ring_w.release(former_w);
      s.ring_x.release(former_x);
    }
    former_w = at_w.stage(), former_x = at_x.stage();
  }
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int block = 0; block < C::kBlocks; ++block) ptx::wgmma_pin(sum[block]);
}

// A thread has rows lane / 4 and + 8 of its warp's 16 of a block, and two tokens of each group of eight. To
// eight lines of sums, of the group's tokens.
template <class C>
__device__ __forceinline__ void leave_group(float* lines, int block, float4 v) {
  const int thread = threadIdx.x, lane = thread % 32;
  float* to = lines + lane % 4 * 2 * C::kSumsStride + block * kRows + thread / 32 * 16 + lane / 4;
  to[0] = v.x;
  to[C::kSumsStride] = v.y;
  to[8] = v.z;
  to[C::kSumsStride + 8] = v.w;
}

template <class C>
__device__ __forceinline__ float4 group_of(const float (&sum)[C::kSums], int i) {
  return make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]);
}

// The n-th quad that a thread finishes: of groups part, part + split, ..., whose lines of sums stand one
// after the other. Where one is not there, none is after it.
struct Quad {
  int line, row, token;  // row: of the tile
  bool is_there;
};

template <class C>
__device__ __forceinline__ Quad own_quad(const Params<C>& p, const Share& share, int n) {
  constexpr int kQuads = C::kOutRows / 4;
  const int index = n * kConsumers + static_cast<int>(threadIdx.x), line = index / kQuads;
  const int token = (line / 8 * p.cut.split + share.part) * 8 + line % 8;
  return {line, index % kQuads * 4, token, token < p.tokens};
}

// What the epilogue reads for a thread's next quads.
template <class C>
class ReadsAhead {
 public:
  using Reads = typename C::Epilogue::Reads;

  __device__ __forceinline__ void begin(const Params<C>& p, const Share& share) {
    if constexpr (kAhead > 0) {
#pragma unroll
      for (int n = 0; n < kAhead; ++n) ask(p, share, n);
    }
  }
  // Of the n-th quad, whose turn it is.
  __device__ __forceinline__ Reads take(const Params<C>& p, const Share& share, int n) {
    const Reads first = next_[0];
    if constexpr (kAhead > 0) ask(p, share, n + kAhead);
    return first;
  }

 private:
  static constexpr int kAhead = C::Epilogue::kReadsAhead;

  // For the n-th quad, at the end of the line.
  __device__ __forceinline__ void ask(const Params<C>& p, const Share& share, int n) {
#pragma unroll
    for (int i = 0; i + 1 < kAhead; ++i) next_[i] = next_[i + 1];
    const Quad quad = own_quad(p, share, n);
    if (quad.is_there) next_[kAhead - 1] = p.epilogue.read(share.tile * C::kOutRows + quad.row, quad.token);
  }

  Reads next_[kAhead > 0 ? kAhead : 1] = {};
};

template <class C>
__device__ __forceinline__ void finish(const Params<C>& p, Storage<C>& s,
                                       const float (*lines)[C::kSumsStride], const Share& share,
                                       ReadsAhead<C>& ahead) {
  const bool is_normed = p.norm.squares != nullptr;
  if (is_normed) ptx::mbarrier_wait(&s.norms_known, 0);
#pragma unroll 1
  for (int n = 0;; ++n) {
    const Quad quad = own_quad(p, share, n);
    if (!quad.is_there) break;
    const auto reads = ahead.take(p, share, n);
    const float* own = &lines[quad.line][quad.row];
    const float factor = is_normed ? s.inverse_rms[quad.token] : 1;
    const float4 value = times(*reinterpret_cast<const float4*>(own), factor);
    const float4 second =
        C::Epilogue::kPairs ? times(*reinterpret_cast<const float4*>(own + C::kOutRows), factor) : value;
    p.epilogue.put(share.tile * C::kOutRows + quad.row, quad.token, value, second, reads);
  }
}

template <int kSplit, class C>
constexpr int own_groups() {
  return (C::kGroups + kSplit - 1) / kSplit;
}

// The place in `pushed` of a part's sums, among those of the parts that are not `owner`.
template <class C, int kSplit>
__device__ __forceinline__ int pushed_at(int from, int owner, int block, int j) {
  return ((from < owner ? from : from - 1) * C::kBlocks + block) * own_groups<kSplit, C>() + j;
}

// Bytes that the other parts push to this one.
template <class C>
__device__ __forceinline__ uint32_t pushed_bytes(const Cut& cut, int part) {
  const int groups = (C::kGroups - part + cut.split - 1) / cut.split;
  return static_cast<uint32_t>(max(groups, 0) * (cut.split - 1) * C::kBlocks * kConsumers * 16);
}

template <class C, int kSplit>
__device__ __forceinline__ void add_parts(const Params<C>& p, Storage<C>& s, const Share& share,
                                          const float (&sum)[C::kBlocks][C::kSums], ReadsAhead<C>& ahead) {
  constexpr int kOwn = own_groups<kSplit, C>();
  const int thread = threadIdx.x, part = share.part;
  ptx::mbarrier_wait(&s.rings_free, 0);
  float4 own[C::kBlocks][kOwn];
#pragma unroll
  for (int block = 0; block < C::kBlocks; ++block)
#pragma unroll
    for (int i = 0; i < C::kGroups; ++i) {
      const int owner = i % kSplit, j = i / kSplit;
      const float4 v = group_of<C>(sum[block], i);
      if (owner == part)
        own[block][j] = v;
      else
        ptx::store_async_float4(&s.pushed[pushed_at<C, kSplit>(part, owner, block, j)][thread], v, &s.arrived,
                                owner);
    }
  if (part >= C::kGroups) return;
  ptx::mbarrier_wait(&s.arrived, 0);
#pragma unroll
  for (int block = 0; block < C::kBlocks; ++block)
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      if (part + j * kSplit >= C::kGroups) continue;
      float4 total{0, 0, 0, 0};
#pragma unroll
      for (int from = 0; from < kSplit; ++from) {
        const float4 v =
            from == part ? own[block][j] : s.pushed[pushed_at<C, kSplit>(from, part, block, j)][thread];
        total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
      }
      leave_group<C>(s.own_sums[8 * j], block, total);
    }
  ptx::named_barrier_sync(1, kConsumers);
  finish<C>(p, s, s.own_sums, share, ahead);
}

template <class C>
__device__ __forceinline__ void consume(const Params<C>& p, Storage<C>& s, const Share& share) {
  ptx::grid_dependency_wait();
  ReadsAhead<C> ahead;
  ahead.begin(p, share);
  float sum[C::kBlocks][C::kSums];
  multiply<C>(s, share, sum);
  ptx::named_barrier_sync(1, kConsumers);  // no warp multiplies from the ring any more
  if (p.cut.split == 1) {
#pragma unroll
    for (int block = 0; block < C::kBlocks; ++block)
#pragma unroll
      for (int i = 0; i < C::kGroups; ++i) leave_group<C>(s.sums[8 * i], block, group_of<C>(sum[block], i));
    ptx::named_barrier_sync(1, kConsumers);
    return finish<C>(p, s, s.sums, share, ahead);
  }
  ptx::cluster_wait();  // the others' barriers are there
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < p.cut.split && rank != share.part)
    ptx::mbarrier_arrive_cluster(&s.rings_free, static_cast<uint32_t>(rank));
  switch (p.cut.split) {
    case 2: return add_parts<C, 2>(p, s, share, sum, ahead);
    case 3: return add_parts<C, 3>(p, s, share, sum, ahead);
    case 4: return add_parts<C, 4>(p, s, share, sum, ahead);
    case 6: return add_parts<C, 6>(p, s, share, sum, ahead);
    default: return add_parts<C, 8>(p, s, share, sum, ahead);
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads + kNormThreads, 2) skinny(const __grid_constant__ Params<C> p) {
  auto& s = device::shared_storage<Storage<C>>();
  const Share share(p.cut);
  ProducerW<C> w;
  if (threadIdx.x == 0) ptx::tma_prefetch_map(&p.x);
  if (threadIdx.x == kConsumers) {
    if (p.cut.split > 1) {
      ptx::mbarrier_init(&s.rings_free, p.cut.split - 1);
      ptx::mbarrier_init(&s.arrived, 1);
    }
    ptx::mbarrier_init(&s.norms_known, kNormThreads);
    s.ring_x.init(kConsumers / 32);
    s.ring_w.init(kConsumers / 32);
    w.run_to(min(share.count, C::kUnderWay), p, s, share);
    if (p.cut.split > 1) ptx::mbarrier_arrive_expect_tx(&s.arrived, pushed_bytes<C>(p.cut, share.part));
  }
  __syncthreads();
  if (p.cut.split > 1) ptx::cluster_arrive_relaxed();
  if (threadIdx.x < kConsumers)
    consume<C>(p, s, share);
  else if (threadIdx.x == kConsumers)
    w.run_to(share.count, p, s, share);
  else if (threadIdx.x == kConsumers + 32)
    produce_x<C>(p, s, share);
  else if (threadIdx.x >= kThreads)
    find_norms<C>(p, s);
}

// x (M, K); firsts and seconds of pairs, or all rows, come from w and w_second (N, K).
struct Operands {
  const void* x;
  const void* w;
  const void* w_second;
  DType element;
  int M, N, K;
  int64_t x_stride;
  SkinnyNorm norm = {};  // of x
};

template <class C>
void launch(const Operands& o, const Layout& layout, const typename C::Epilogue& epilogue,
            const SkinnyPlan& plan, Context& context) {
  static_assert(device::smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const Device device{DeviceKind::cuda, context.caps().device_index};
  const auto map = [&](const void* data, int64_t rows, int64_t stride, int box_rows) {
    const Tensor whole(const_cast<void*>(data), o.element, {rows, stride}, device);
    return cuda::make_tensor_map(whole.columns(0, o.K), {box_rows, kDepth});
  };
  Params<C> p{};
  p.w[0] = map(o.w, o.N, o.K, layout.box_rows);
  p.w[1] = o.w_second == o.w ? p.w[0] : map(o.w_second, o.N, o.K, layout.box_rows);
  p.x = map(o.x, o.M, o.x_stride, C::kTokens);
  p.layout = layout;
  p.epilogue = epilogue;
  p.tokens = o.M;
  p.norm = o.norm;
  p.cut = Cut((o.K + kDepth - 1) / kDepth, plan.split);
  cuda::launch(skinny<C>,
               {.grid = dim3(static_cast<unsigned>(plan.blocks)),
                .block = dim3(kThreads + (o.norm.squares != nullptr ? kNormThreads : 0)),
                .smem = device::smem_bytes<Storage<C>>(),
                .stream = context.stream().get(),
                .cluster = plan.split,
                .pdl = true},
               p);
}

// visit<kTokens, kBlocks>(): the instance for the plan's tile.
template <class Visit>
void with_tile(const SkinnyPlan& plan, Visit visit) {
  if (plan.tile_rows == 2 * kRows) return visit.template operator()<64, 2>();
  switch (plan.tokens) {
    case 16: return visit.template operator()<16, 1>();
    case 32: return visit.template operator()<32, 1>();
    case 64: return visit.template operator()<64, 1>();
    default: return visit.template operator()<128, 1>();
  }
}

}  // namespace llamita::skinny_sm90_detail
