// The products of persistent_sm90. A warp multiplies 128 of every 1024 elements along K with m16n8k16: rows
// of the weight are A, tokens B. k is summed in ascending order within a warp and the warps' sums in
// ascending order. Both operands come in pieces of eight elements a lane, which is a permutation of k inside
// 32 elements and the same one for both.
#pragma once

#include "hw/cuda/device/ptx/math.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "ops/decoder_layers/persistent_parts.cuh"

namespace llamita::device::persistent {

// kTokens: room for 1, 8 or 16. One token has its own form since seven of eight columns are then empty.
template <int kTokens>
struct ProductConfig {
  static constexpr int kBlocks = (kTokens + 7) / 8;  // of eight tokens
  static constexpr int kTogether = kTokens == 1   ? 8
                                   : kTokens == 8 ? 4
                                                  : 2;  // tiles that are added up at one time
};

using Cursor = RingCursor<kStages>;

// What attention left in parts, for the warp's 128 columns from `column` on of all tokens: added up and left
// in shared memory, a row of 128 elements a token.
__device__ __forceinline__ void merge_parts(const Params& p, Element* rows, int column, int width) {
  const int mine = column + static_cast<int>(threadIdx.x) % 32 * 4;
  const int head = mine / p.head_dim, d = mine % p.head_dim;
  __syncwarp();  // what lay there has been read
  if (mine - column < width) {
#pragma unroll 1
    for (int token = 0; token < p.tokens; ++token) {
      const int64_t part = (int64_t{token} * p.heads + head) * p.splits;
      float2 state[kMostSplits];
      float4 values[kMostSplits];
#pragma unroll
      for (int i = 0; i < kMostSplits; ++i) {
        const int at = min(i, p.splits - 1);
        state[i] = __ldcg(p.part_state + part + at);
        values[i] = __ldcg(reinterpret_cast<const float4*>(p.part_out + (part + at) * p.head_dim + d));
      }
      float highest = state[0].x, total = 0;
#pragma unroll
      for (int i = 1; i < kMostSplits; ++i) highest = fmaxf(highest, state[i].x);
      float4 sum = {0, 0, 0, 0};
#pragma unroll
      for (int i = 0; i < kMostSplits; ++i) {
        const float weight = i < p.splits ? ptx::exp2_approx(state[i].x - highest) : 0;
        total += weight * state[i].y;
        sum.x += weight * values[i].x;
        sum.y += weight * values[i].y;
        sum.z += weight * values[i].z;
        sum.w += weight * values[i].w;
      }
      const float scale = 1 / total;
      *reinterpret_cast<uint2*>(rows + token * 128 + mine - column) = {
          pack2<Element>(sum.x * scale, sum.y * scale), pack2<Element>(sum.z * scale, sum.w * scale)};
    }
  }
  __syncwarp();
}

template <int kTokens>
using Sums = float[kMostTiles][ProductConfig<kTokens>::kBlocks][4];

// The warp's part of all tiles of a product.
template <int kTokens>
__device__ __forceinline__ void multiply(const Params& p, Storage& s, const Share& share, int product,
                                         Cursor& at, Sums<kTokens>& sums) {
  constexpr int kBlocks = ProductConfig<kTokens>::kBlocks, kPieces = 4;  // of 32 elements
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const int offset = 128 * warp + lane % 4 * 8;
  const bool in_parts = product == kOut && p.splits > 1;
  const Element* rows = product == kDown ? p.hidden : product == kOut ? p.mixed : p.scaled;
  auto* merged = reinterpret_cast<Element*>(s.sums) + warp * kSplitTokens * 128;
#pragma unroll
  for (int tile = 0; tile < kMostTiles; ++tile)
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (float& sum : sums[tile][block]) sum = 0;
#pragma unroll 1
  for (int k = 0; k < share.K; k += kChunk) {
    const int width = min(kChunk, share.K - k);
    if (in_parts) merge_parts(p, merged, k + 128 * warp, width - 128 * warp);
    uint4 x[kPieces][kBlocks];
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const int column = offset + 32 * piece;
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int token = 8 * block + g;
        x[piece][block] = {0, 0, 0, 0};
        if (token >= p.tokens || column >= width) continue;
        x[piece][block] =
            in_parts ? *reinterpret_cast<const uint4*>(merged + token * 128 + column - 128 * warp)
                     : __ldcg(reinterpret_cast<const uint4*>(rows + int64_t{token} * share.K + k + column));
      }
    }
#pragma unroll
    for (int tile = 0; tile < kMostTiles; ++tile) {
      if (tile >= share.tiles) break;
      s.ring.wait_full(at);
      const uint8_t* stage = s.stage[at.stage()] + g * kRowBytes + offset * sizeof(Element);
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        if (128 * warp + 32 * piece >= width) break;  // what lies there is of another product, and may be NaN
        const uint4 low = *reinterpret_cast<const uint4*>(stage + 64 * piece);
        const uint4 high = *reinterpret_cast<const uint4*>(stage + 8 * kRowBytes + 64 * piece);
        const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          ptx::mma_m16n8k16<Element>(sums[tile][block], first, x[piece][block].x, x[piece][block].y);
          ptx::mma_m16n8k16<Element>(sums[tile][block], second, x[piece][block].z, x[piece][block].w);
        }
      }
      __syncwarp();
      if (lane == 0) s.ring.release(at.stage());
      at.advance();
    }
  }
}

// Adds the warps' sums and calls finish(row of the share, token, sum) once for each. The caller's writes to
// shared memory before it are visible inside finish.
template <int kTokens, class Finish>
__device__ __forceinline__ void add_warps(const Params& p, Storage& s, const Share& share,
                                          const Sums<kTokens>& sums, Finish finish) {
  constexpr int kTogether = ProductConfig<kTokens>::kTogether;
  constexpr int kValues = kTogether * kTileRows * kTokens;  // of a warp
  static_assert(kConsumerWarps * kValues <= 4096);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int base = 0; base < kMostTiles; base += kTogether) {
    if (base >= share.tiles) break;
    consumer_sync();  // what lay there has been read
    float* to = s.sums + warp * kValues;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (base + i >= share.tiles) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* row = to + (i * kTileRows + g + 8 * half) * kTokens;
        if constexpr (kTokens == 1) {
          if (pair == 0) *row = sums[base + i][0][2 * half];
        } else {
#pragma unroll
          for (int block = 0; block < kTokens / 8; ++block)
            *reinterpret_cast<float2*>(row + 8 * block + pair) = {sums[base + i][block][2 * half],
                                                                  sums[base + i][block][2 * half + 1]};
        }
      }
    }
    consumer_sync();
    for (int i = threadIdx.x; i < kValues; i += kConsumers) {
      const int token = i % kTokens, tile = base + i / (kTileRows * kTokens), row = i / kTokens % kTileRows;
      if (tile >= share.tiles || token >= p.tokens) continue;
      const int begin = share.begin(tile);
      if (row >= share.begin(tile + 1) - begin) continue;
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) sum += s.sums[w * kValues + i];
      finish(begin + row, token, sum);
    }
  }
}

// 1 / RMS of every token, from what the blocks left. A warp a token.
__device__ __forceinline__ void read_squares(const Params& p, Storage& s) {
  const int lane = threadIdx.x % 32;
  for (int token = threadIdx.x / 32; token < p.tokens; token += kConsumerWarps) {
    float sum = 0;
    for (int block = lane; block < gridDim.x; block += 32)
      sum += __ldcg(p.squares + token * gridDim.x + block);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (lane == 0) s.inverse[token] = rsqrtf(sum / static_cast<float>(p.C) + p.norm_eps);
  }
}

// This block's rows of the residual stream, as the next norm wants them, to all blocks. After a barrier of
// the consumers.
__device__ __forceinline__ void hand_on(const Params& p, const Storage& s, const float* gain, int first,
                                        int rows) {
  const int lane = threadIdx.x % 32;
  for (int token = threadIdx.x / 32; token < p.tokens; token += kConsumerWarps) {
    float squares = 0;
    for (int row = lane; row < rows; row += 32) {
      const float value = s.own[row][token];
      squares += value * value;
      p.scaled[int64_t{token} * p.C + first + row] = from_f32<Element>(value * gain[first + row]);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffff, squares, step);
    if (lane == 0) p.squares[token * gridDim.x + blockIdx.x] = squares;
  }
}

}  // namespace llamita::device::persistent
