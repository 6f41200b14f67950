// What the parts of the Hopper GEMM share: its configurations, its parameters, its shared memory.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/swizzle.cuh"
#include "hw/cuda/device/tile_order.cuh"
#include "ops/activation/sigmoid_form.h"
#include "ops/linear/tiles.h"

namespace llamita::gemm_sm90_detail {

constexpr int kDepth = 64;
constexpr int kMostParts = 4;
constexpr int kGroupRows = 1024;  // rows of tiles that run side by side, for L2: 512 to 4096 are alike
constexpr int kSharedBytes = 232448 - 2048;  // of a block, less alignment and barriers

enum class Epilogue : uint8_t { element, f32, gated };

// A tile is kTall rows x kWide columns of products: 64 rows for each consumer, or in ping-pong all for one.
template <class ElementType, int kWide, Epilogue kEpilogueKind, bool kSplitK, int kTall = 128,
          GemmSchedule kSchedule = GemmSchedule::cooperative>
struct Config {
  using Element = ElementType;
  static constexpr Epilogue kEpilogue = kEpilogueKind;
  static constexpr bool kSplit = kSplitK;
  static constexpr int kWidth = kWide;
  static constexpr int kHeight = kTall;
  static constexpr bool kPingPong = kSchedule == GemmSchedule::ping_pong;
  static constexpr int kConsumers = kPingPong ? 2 : kTall / 64;
  static constexpr int kReaders = kPingPong ? 1 : kConsumers;  // consumers that read a stage
  static constexpr int kSlabs = kHeight / (64 * kReaders);     // of 64 rows, a consumer's
  static constexpr int kThreads = 128 * (1 + kConsumers);
  // Of two consumers. 192 sums of a tile of 128 x 192 and the chunk that is made of them want 232 or more.
  static constexpr int kProducerRegisters = kPingPong ? 24 : 56, kConsumerRegisters = kPingPong ? 240 : 224;
  static constexpr int kOutWidth = kEpilogue == Epilogue::gated ? kWidth / 2 : kWidth;
  // Columns of a store, rows of 128 bytes; half of it where that leaves room for one stage more.
  static constexpr int kChunk = kEpilogue == Epilogue::f32 || kOutWidth % 64 != 0 || kWidth == 192 ? 32 : 64;
  static constexpr int kChunkBytes = 16 * kChunk * (kEpilogue == Epilogue::f32 ? 4 : 2);
  static constexpr int kChunks = kOutWidth / kChunk;  // of a slab
  static constexpr int kBytesA = kHeight * device::kSwizzleRowBytes;
  static constexpr int kBytesB = kWidth * device::kSwizzleRowBytes;
  static constexpr int kStages = (kSharedBytes - 2 * 4 * kConsumers * kChunkBytes) / (kBytesA + kBytesB);
  // Of a warp, in what the ring leaves: the fewer a tile's stores wait for each other, the shorter the end of
  // a launch.
  static constexpr int kRoom =
      (kSharedBytes - kStages * (kBytesA + kBytesB)) / (4 * kConsumers * kChunkBytes);
  static constexpr int kBuffers = std::min(kRoom, kSlabs* kChunks);
  // Of sums that other parts push: float4 of a thread, each the most that any number of parts needs.
  static constexpr int kChunkQuads = kChunk / 8;
  static constexpr int pushed_by(int parts) {
    return (parts - 1) * ((kChunks + parts - 1) / parts) * kChunkQuads;
  }
  static constexpr int kMostPushed = std::max({pushed_by(2), pushed_by(3), pushed_by(4)});
  static_assert(!kSplit || kMostPushed * 128 * kConsumers * 16 <= kStages * (kBytesA + kBytesB));
  static_assert(!kSplit || !kPingPong);
  static_assert(kProducerRegisters + 2 * kConsumerRegisters <= 3 * ptx::launch_registers(384));
  static_assert(kWidth % 32 == 0 && kOutWidth % kChunk == 0 && kStages >= 4 && kRoom >= 2);
};

// The blocks of a cluster: parts of K x one or two neighbouring row tiles; those of a part share B.
struct Cluster {
  int parts, rows;

  __host__ __device__ __forceinline__ int size() const { return parts * rows; }
};

struct Params {
  CUtensorMap a;     // (M, K), box (height, 64)
  CUtensorMap b[2];  // (N, K) of each half, box (width / 2, 64)
  CUtensorMap out;   // (M, N), box (16, chunk)
  Cluster cluster;
  device::Divider cluster_blocks;
  int half_step;              // rows of B from the first half to the second: 0 when gated
  int columns;                // N
  device::TileOrder order;    // of the work of clusters
  int units;                  // of it
  int clusters;               // in the grid
  int begin[kMostParts + 1];  // of each part of K, in blocks of 64
  const float* bias;
  const float* bias_up;
  SigmoidForm activation;  // when gated or activated
  bool activated;          // of Epilogue::element: outputs pass through it
  bool add;
};

template <int kWarps>
struct Exchange {
  uint64_t rings_free;       // the other parts' rings
  uint64_t arrived[kWarps];  // what the others pushed to a warp
};
struct NoExchange {};

// Ping-pong, of each consumer: a phase for each tile of the other, completed by that one's four warps once
// they have seen the tile's last stage.
struct Handover {
  uint64_t given[2];
};
struct NoHandover {};

// Sums that parts of K exchange take the place of the ring.
template <class C>
struct Storage {
  union {
    struct {
      uint8_t a[C::kStages][C::kBytesA];
      uint8_t b[C::kStages][2][C::kBytesB / 2];
    };
    float4 pushed[C::kSplit ? C::kMostPushed : 1][128 * C::kConsumers];
  };
  uint8_t chunk[4 * C::kConsumers][C::kBuffers][C::kChunkBytes];
  device::Ring<C::kStages> ring;
  std::conditional_t<C::kSplit, Exchange<4 * C::kConsumers>, NoExchange> exchange;
  std::conditional_t<C::kPingPong, Handover, NoHandover> handover;
};

// A block's place: its cluster, and where it stands there.
struct Place {
  int cluster, part, row;

  __device__ __forceinline__ explicit Place(const Params& p) {
    const int rows = p.cluster.rows, rank = p.cluster.size() > 1 ? static_cast<int>(ptx::cluster_rank()) : 0;
    cluster = p.cluster_blocks.quotient(static_cast<int>(blockIdx.x));
    part = rank >> (rows - 1);  // one or two rows
    row = rank & (rows - 1);
  }
};

}  // namespace llamita::gemm_sm90_detail
