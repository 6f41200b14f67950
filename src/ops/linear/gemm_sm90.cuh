// The Hopper GEMM: persistent blocks of a producer warp and two consumer warpgroups, TMA and wgmma
// (lessons/gemm_07 to 11 build it up). A tile is 128 rows x kWide columns of products; pairs of row tiles
// share the loads of B through a cluster. Bound by: wgmma and the power limit where tiles fill the card.
//
// B's tile is loaded in two halves of kWide / 2 rows. In a gated block the halves are the same rows of gate
// and up, so the two sums of an output stand in one thread's registers and the activation costs no memory.
// Reduction order: K ascending in steps of 16, one fp32 accumulation; residuals are added by the copy engine
// once an element. The result depends on the shape's tile width alone.
//
// Invariants. Every role walks over the same tiles in the same order, so each meets every round of the ring.
// A warp's two store buffers take turns without regard to tiles; before one is written, the store before last
// has been read.
#pragma once

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/math.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/shared_storage.cuh"
#include "hw/cuda/device/tile_store.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "hw/cuda/tensor_map.h"
#include "ops/linear/gemm_sm90.h"

namespace llamita::gemm_sm90_detail {

constexpr float kLog2e = 1.4426950408889634f;
constexpr int kTileM = 128;
constexpr int kDepth = 64;
constexpr int kConsumers = 2;
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kGroupRows = 8;                // row tiles that run side by side, for L2
constexpr int kSharedBytes = 232448 - 2048;  // of a block, less alignment and barriers

enum class Epilogue : uint8_t { element, f32, gated };

template <class ElementType, int kWide, int kBlocksPerCluster, Epilogue kEpilogueKind>
struct Config {
  using Element = ElementType;
  static constexpr Epilogue kEpilogue = kEpilogueKind;
  static constexpr int kWidth = kWide;
  static constexpr int kHalf = kWide / 2;
  static constexpr int kCluster = kBlocksPerCluster;
  static constexpr int kOutWidth = kEpilogue == Epilogue::gated ? kHalf : kWidth;
  static constexpr int kChunk = kEpilogue == Epilogue::f32 || kOutWidth % 64 != 0 ? 32 : 64;  // columns
  static constexpr int kChunkBytes = 16 * kChunk * (kEpilogue == Epilogue::f32 ? 4 : 2);
  static constexpr int kBytesA = kTileM * device::kSwizzleRowBytes;
  static constexpr int kBytesHalf = kHalf * device::kSwizzleRowBytes;
  static constexpr int kStages =
      (kSharedBytes - 2 * 4 * kConsumers * kChunkBytes) / (kBytesA + 2 * kBytesHalf);
  static_assert(kHalf % 8 == 0 && kOutWidth % kChunk == 0 && kStages >= 4);
};

struct Params {
  CUtensorMap a;     // (M, K), box (128, 64)
  CUtensorMap b[2];  // (N, K) of each half, box (width / 2, 64)
  CUtensorMap out;   // (M, N), box (16, chunk)
  int half_step;     // rows of B from the first half to the second: 0 when gated
  int columns;       // N
  int row_tiles;     // in clusters
  int column_tiles;
  int blocks;  // of 64 along K
  const float* bias;
  const float* bias_up;
  float linear, cubic;  // gated: act(x) = x / (1 + 2^-(linear x + cubic x^3))
  bool add;
};

template <class C>
struct Storage {
  uint8_t a[C::kStages][C::kBytesA];
  uint8_t b[C::kStages][2][C::kBytesHalf];
  uint8_t chunk[4 * kConsumers][2][C::kChunkBytes];
  device::Ring<C::kStages> ring;
};

// Row tiles in groups of kGroupRows, down the rows first: the tiles that run at one time form a near-square
// patch, which reads the fewest distinct rows of A and B.
template <class C, class Visit>
__device__ __forceinline__ void for_each_tile(const Params& p, uint32_t rank, Visit visit) {
  constexpr int kGroup = kGroupRows / C::kCluster;
  const int tiles = p.row_tiles * p.column_tiles;
  for (int i = blockIdx.x / C::kCluster; i < tiles; i += gridDim.x / C::kCluster) {
    const int group = i / (kGroup * p.column_tiles), first = group * kGroup;
    const int height = min(kGroup, p.row_tiles - first), inside = i - group * kGroup * p.column_tiles;
    const int row = first + inside % height, column = inside / height;
    visit((row * C::kCluster + static_cast<int>(rank)) * kTileM, column * C::kOutWidth);
  }
}

template <class C>
__device__ __forceinline__ void produce(const Params& p, Storage<C>& s, uint32_t rank) {
  device::RingCursor<C::kStages> at;
  for_each_tile<C>(p, rank, [&](int row0, int column0) {
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      const uint32_t stage = at.stage();
      s.ring.acquire(at, C::kBytesA + 2 * C::kBytesHalf);
      ptx::tma_load_2d(s.a[stage], &p.a, block * kDepth, row0, &s.ring.full[stage]);
      if constexpr (C::kCluster == 1) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          ptx::tma_load_2d(s.b[stage][half], &p.b[half], block * kDepth, column0 + half * p.half_step,
                           &s.ring.full[stage]);
      } else {
        ptx::tma_load_2d_multicast(s.b[stage][rank], &p.b[rank], block * kDepth,
                                   column0 + static_cast<int>(rank) * p.half_step, &s.ring.full[stage], 3);
      }
    }
  });
}

template <class C>
__device__ __forceinline__ void release(Storage<C>& s, uint32_t stage, int lane) {
  if constexpr (C::kCluster == 1) {
    if (lane == 0) s.ring.release(stage);
  } else {
    if (lane < C::kCluster) s.ring.release_cluster(stage, lane);
  }
}

// SiLU, GELU in its tanh form and quick GELU are one formula, so the epilogue has neither branches nor code
// for what is not asked.
__device__ __forceinline__ float gate(const Params& p, float x) {
  return __fdividef(x, 1 + ptx::exp2_approx(-x * (p.linear + p.cubic * x * x)));
}

// Two neighbouring outputs of accumulators i and i + 1, columns n and n + 1.
template <class C>
__device__ __forceinline__ float2 outputs(const Params& p, const float (&sum)[C::kWidth / 2], int i, int n) {
  float2 v = make_float2(sum[i], sum[i + 1]);
  if (p.bias != nullptr && n < p.columns) {
    v.x += __ldg(p.bias + n);
    if (n + 1 < p.columns) v.y += __ldg(p.bias + n + 1);
  }
  if constexpr (C::kEpilogue == Epilogue::gated) {
    float2 up = make_float2(sum[i + C::kWidth / 4], sum[i + C::kWidth / 4 + 1]);
    if (p.bias_up != nullptr && n < p.columns) {
      up.x += __ldg(p.bias_up + n);
      if (n + 1 < p.columns) up.y += __ldg(p.bias_up + n + 1);
    }
    v.x = gate(p, v.x) * up.x;
    v.y = gate(p, v.y) * up.y;
  }
  return v;
}

// One chunk, 16 rows, to the warp's buffer. 16-bit: a stmatrix moves 16 columns. fp32: rows of 128 bytes,
// each thread eight bytes of rows lane / 4 and + 8.
template <class C>
__device__ __forceinline__ void fill_chunk(const Params& p, uint8_t* buffer,
                                           const float (&sum)[C::kWidth / 2], int chunk, int column0,
                                           int lane) {
  if constexpr (C::kEpilogue == Epilogue::f32) {
#pragma unroll
    for (int j = 0; j < C::kChunk / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = chunk * C::kChunk + 8 * j + lane % 4 * 2;
        const int i = (chunk * (C::kChunk / 8) + j) * 4 + 2 * half;
        *reinterpret_cast<float2*>(buffer +
                                   device::swizzled_byte(lane / 4 + 8 * half, (8 * j + lane % 4 * 2) * 4)) =
            outputs<C>(p, sum, i, column0 + column);
      }
  } else {
#pragma unroll
    for (int pair = 0; pair < C::kChunk / 16; ++pair) {
      const int first = (chunk * (C::kChunk / 8) + pair * 2) * 4;
      uint32_t packed[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = column0 + chunk * C::kChunk + pair * 16 + i / 2 * 8 + lane % 4 * 2;
        const float2 v = outputs<C>(p, sum, first + 2 * i, column);
        packed[i] = device::pack_pair<typename C::Element>(v.x, v.y);
      }
      // Rows of 128 bytes, or of 64, where two rows share a line of 128 and the permutation moves with it.
      const int row = lane & 15, piece = pair * 2 + (lane >> 4);
      const uint32_t at =
          C::kChunk == 64 ? device::swizzled_piece(row, piece) : row * 64 + ((piece ^ (row >> 1 & 3)) << 4);
      ptx::stmatrix_x4(buffer + at, packed[0], packed[1], packed[2], packed[3]);
    }
  }
}

// 16 rows of a tile through the warp's two buffers, beginning with buffer `turn`.
template <class C>
__device__ __forceinline__ void store_rows(const Params& p, uint8_t (&chunks)[2][C::kChunkBytes],
                                           const float (&sum)[C::kWidth / 2], int row0, int column0, int turn,
                                           int lane) {
#pragma unroll
  for (int chunk = 0; chunk < C::kOutWidth / C::kChunk; ++chunk) {
    uint8_t* buffer = chunks[(turn + chunk) & 1];
    if (lane == 0) ptx::tma_store_wait_read<1>();
    __syncwarp();
    fill_chunk<C>(p, buffer, sum, chunk, column0, lane);
    ptx::fence_proxy_async_smem();
    __syncwarp();
    if (lane == 0) {
      const int column = column0 + chunk * C::kChunk;
      if (C::kEpilogue == Epilogue::f32 && p.add)
        ptx::tma_add_2d(&p.out, buffer, column, row0);
      else
        ptx::tma_store_2d(&p.out, buffer, column, row0);
      ptx::tma_store_commit();
    }
  }
}

template <class C>
__device__ __forceinline__ void consume(const Params& p, Storage<C>& s, uint32_t rank, int consumer) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
  device::RingCursor<C::kStages> at;
  int turn = 0;
  for_each_tile<C>(p, rank, [&](int row0, int column0) {
    float sum[C::kWidth / 2];
    uint32_t former = 0;
    for (int block = 0; block < p.blocks; ++block, at.advance()) {
      s.ring.wait_full(at);
      ptx::wgmma_fence();
      device::wgmma_k64<typename C::Element, C::kWidth>(
          sum, device::wgmma_descriptor(s.a[at.stage()]) + consumer * device::kDescriptor64Rows,
          device::wgmma_descriptor(s.b[at.stage()]), block > 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (block > 0) release(s, former, lane);
      former = at.stage();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(sum);
    release(s, former, lane);
    store_rows<C>(p, s.chunk[consumer * 4 + warp], sum, row0 + consumer * 64 + warp * 16, column0, turn,
                  lane);
    turn += C::kOutWidth / C::kChunk;
  });
  if (lane == 0) ptx::tma_store_wait<0>();
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) gemm(const __grid_constant__ Params p) {
  auto& s = device::shared_storage<Storage<C>>();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t rank = C::kCluster > 1 ? ptx::cluster_rank() : 0;
  if (threadIdx.x == 0) s.ring.init(kConsumers * 4 * C::kCluster);
  if constexpr (C::kCluster > 1)
    ptx::cluster_sync();
  else
    __syncthreads();
  ptx::grid_dependency_wait();
  if (group == 0) {
    ptx::setmaxnreg_decrease<40>();
    if (threadIdx.x == 0) produce<C>(p, s, rank);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume<C>(p, s, rank, group - 1);
  }
  if constexpr (C::kCluster > 1) ptx::cluster_sync();
}

template <class C>
void launch(const GemmSm90& g, Context& context) {
  static_assert(device::smem_bytes<Storage<C>>() <= 232448, "the shared memory of a block on sm_90");
  const Device device{DeviceKind::cuda, context.caps().device_index};
  const auto matrix = [&](const void* data, DType dtype, int64_t rows, int64_t columns, int64_t stride) {
    const Tensor whole(const_cast<void*>(data), dtype, {rows, stride}, device);
    return whole.columns(0, columns);
  };
  Params p{};
  p.a = cuda::make_tensor_map(matrix(g.a, g.element, g.M, g.K, g.a_stride), {kTileM, kDepth});
  const bool gated = C::kEpilogue == Epilogue::gated;
  for (int half = 0; half < 2; ++half)
    p.b[half] = cuda::make_tensor_map(matrix(gated && half == 1 ? g.b_up : g.b, g.element, g.N, g.K, g.K),
                                      {C::kHalf, kDepth});
  const DType out_dtype = C::kEpilogue == Epilogue::f32 ? DType::f32 : g.element;
  p.out = cuda::make_tensor_map(
      matrix(g.out, out_dtype, g.M, g.N, g.out_stride), {16, C::kChunk},
      C::kChunkBytes == 16 * 128 ? cuda::TmaSwizzle::span128 : cuda::TmaSwizzle::span64);
  p.half_step = gated ? 0 : C::kHalf;
  p.columns = g.N;
  p.row_tiles = (g.M + kTileM * C::kCluster - 1) / (kTileM * C::kCluster);
  p.column_tiles = (g.N + C::kOutWidth - 1) / C::kOutWidth;
  p.blocks = (g.K + kDepth - 1) / kDepth;
  p.bias = g.bias;
  p.bias_up = g.bias_up;
  p.linear = kLog2e * gate_coefficients(g.activation).linear;
  p.cubic = kLog2e * gate_coefficients(g.activation).cubic;
  p.add = g.kind == GemmSm90::Out::f32_add;
  const int clusters = std::min(context.caps().sm_count / C::kCluster, p.row_tiles * p.column_tiles);
  cuda::launch(gemm<C>,
               {.grid = dim3(static_cast<unsigned>(clusters * C::kCluster)),
                .block = dim3(kThreads),
                .smem = device::smem_bytes<Storage<C>>(),
                .stream = context.stream().get(),
                .cluster = C::kCluster,
                .pdl = true},
               p);
}

template <class Element, int kWide, Epilogue kEpilogue>
void launch_width(const GemmSm90& g, Context& context) {
  // Pairs of row tiles share B, unless one of a pair would be empty.
  if ((g.M + kTileM - 1) / kTileM % 2 == 0)
    launch<Config<Element, kWide, 2, kEpilogue>>(g, context);
  else
    launch<Config<Element, kWide, 1, kEpilogue>>(g, context);
}

template <class Element>
void run(const GemmSm90& g, int width, Context& context) {
  if (g.b_up != nullptr) {
    switch (width) {
      case 128: return launch_width<Element, 128, Epilogue::gated>(g, context);
      case 192: return launch_width<Element, 192, Epilogue::gated>(g, context);
      default: return launch_width<Element, 256, Epilogue::gated>(g, context);
    }
  }
  if (g.kind == GemmSm90::Out::element) {
    switch (width) {
      case 128: return launch_width<Element, 128, Epilogue::element>(g, context);
      case 160: return launch_width<Element, 160, Epilogue::element>(g, context);
      case 192: return launch_width<Element, 192, Epilogue::element>(g, context);
      case 224: return launch_width<Element, 224, Epilogue::element>(g, context);
      default: return launch_width<Element, 256, Epilogue::element>(g, context);
    }
  }
  switch (width) {
    case 128: return launch_width<Element, 128, Epilogue::f32>(g, context);
    case 160: return launch_width<Element, 160, Epilogue::f32>(g, context);
    case 192: return launch_width<Element, 192, Epilogue::f32>(g, context);
    case 224: return launch_width<Element, 224, Epilogue::f32>(g, context);
    default: return launch_width<Element, 256, Epilogue::f32>(g, context);
  }
}

}  // namespace llamita::gemm_sm90_detail
