// What the parts of the Hopper GEMM share: its configurations, its parameters, its shared memory.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/swizzle.cuh"

namespace llamita::gemm_sm90_detail {

constexpr float kLog2e = 1.4426950408889634f;
constexpr int kTileM = 128;
constexpr int kDepth = 64;
constexpr int kConsumers = 2;
constexpr int kThreads = 128 * (1 + kConsumers);
constexpr int kGroupRows = 8;                // row tiles that run side by side, for L2: 4 to 32 are alike
constexpr int kSharedBytes = 232448 - 2048;  // of a block, less alignment and barriers

enum class Epilogue : uint8_t { element, f32, gated };

template <class ElementType, int kWide, int kBlocksPerCluster, Epilogue kEpilogueKind, bool kSplitK>
struct Config {
  using Element = ElementType;
  static constexpr Epilogue kEpilogue = kEpilogueKind;
  static constexpr bool kSplit = kSplitK;
  static constexpr int kWidth = kWide;
  static constexpr int kHalf = kWide / 2;
  static constexpr int kCluster = kBlocksPerCluster;
  static constexpr int kOutWidth = kEpilogue == Epilogue::gated ? kHalf : kWidth;
  static constexpr int kChunk = kEpilogue == Epilogue::f32 || kOutWidth % 64 != 0 ? 32 : 64;  // columns
  static constexpr int kChunkBytes = 16 * kChunk * (kEpilogue == Epilogue::f32 ? 4 : 2);
  static constexpr int kChunks = kOutWidth / kChunk;
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
  int blocks;        // of 64 along K
  int splits;        // parts of K
  float4* exchange;  // [block][warp of 8][accumulators / 4][lane], of split problems
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

}  // namespace llamita::gemm_sm90_detail
