// The skinny matrix product of decode: out(T, N) = x(T, K) W(N, K)^T for T <= 8, 16 or 32 tokens, W streamed
// once. linear, attn_in and mlp_in are this loop with their own rows and epilogues.
//
// Why tensor cores at one token: m16n8k16 with W as the 16-row operand needs six instructions for the 512
// weights that CUDA cores take about 36 for, so that what is left is the stream. No shared memory and no
// ldmatrix: the product does not care in which order k is summed, so a lane takes 16 consecutive bytes of
// row g and of row g + 8 (g = lane / 4) as its part of two A fragments, and the same k of token g as its part
// of B.
//
// Block: eight warps share a tile of 16 rows; K is dealt to them in chunks of 32 elements, round robin, so
// that a block reads 512 contiguous bytes of each row at a time. The warps' partial sums meet in shared
// memory and are added in ascending order. A block takes tiles in strides of the grid; the weights of its
// next group of chunks are under way while it multiplies one, across tiles, and those of the first before the
// predecessor kernel has ended. In flight: two groups of 4 chunks, 8 KB a warp.
//
// Plan: what the block does, with
//   Rows rows(tile, g)      where rows g and g + 8 of the tile lie
//   store(tile, tokens0, d) d = (row g, token), (row g, token + 1), (row g + 8, token), (row g + 8, token +
//   1)
#pragma once

#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "ops/cuda/block_formats.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/norm/norm.h"
#include "quant/weight.h"

namespace llamita::device {

inline constexpr int kGemvWarps = 8;
inline constexpr int kGemvThreads = 32 * kGemvWarps;
inline constexpr int kGemvRows = 16;
inline constexpr int kGemvGroup = 4;  // chunks of 32 elements that a warp loads at once
inline constexpr int kGemvMaxParts = 4;

// A weight as the kernel takes it. Rows of a part are `row_bytes` apart.
struct GemvPart {
  const uint8_t* data;
  int64_t row_bytes;
  int first_row, rows;
  DType format;
};
struct GemvWeight {
  GemvPart parts[kGemvMaxParts];
  int count;
  int K;

  // Row n of the whole weight; nullptr when there is none.
  __device__ __forceinline__ const uint8_t* row(int n, DType& format) const {
#pragma unroll
    for (int i = 0; i < kGemvMaxParts; ++i)
      if (i < count && n >= parts[i].first_row && n < parts[i].first_row + parts[i].rows) {
        format = parts[i].format;
        return parts[i].data + (n - parts[i].first_row) * parts[i].row_bytes;
      }
    return nullptr;
  }
};

// Rows g and g + 8 of a tile; nullptr where there is none. Both formats are the same in all lanes of a warp,
// or the plan must not be used with block formats.
struct GemvRows {
  const uint8_t* low;
  const uint8_t* high;
  DType format;  // of the tile
};

// x in the order a lane needs it: eight elements of a chunk, as four registers.
template <class Element, bool kBlocks>
__device__ __forceinline__ uint4 load_x(const Element* row, int chunk, int q) {
  if constexpr (kBlocks) {
    const uint2 low = *reinterpret_cast<const uint2*>(row + 32 * chunk + 4 * q);
    const uint2 high = *reinterpret_cast<const uint2*>(row + 32 * chunk + 16 + 4 * q);
    return {low.x, low.y, high.x, high.y};
  } else {
    return *reinterpret_cast<const uint4*>(row + 32 * chunk + 8 * q);
  }
}

// d += W x^T for one chunk: two multiplies of 16 elements.
template <class Element>
__device__ __forceinline__ void multiply_chunk(float (&d)[4], const uint4& low, const uint4& high,
                                               const uint4& x) {
  const uint32_t first[4] = {low.x, high.x, low.y, high.y};
  const uint32_t second[4] = {low.z, high.z, low.w, high.w};
  ptx::mma_m16n8k16<Element>(d, first, x.x, x.y);
  ptx::mma_m16n8k16<Element>(d, second, x.z, x.w);
}

// A warp's chunks are warp, warp + 8, ...; a group is four of them.
struct GemvGroup {
  uint4 low[kGemvGroup], high[kGemvGroup];
};

__device__ __forceinline__ uint4 load_weights(const uint8_t* row, int chunk, int q, int K) {
  if (row == nullptr || 32 * chunk + 8 * q >= K) return {0, 0, 0, 0};
  return __ldg(reinterpret_cast<const uint4*>(row + 2 * (32 * chunk + 8 * q)));
}

__device__ __forceinline__ void load_group(GemvGroup& group, const GemvRows& rows, int index, int warp, int q,
                                           int K) {
#pragma unroll
  for (int u = 0; u < kGemvGroup; ++u) {
    const int chunk = (index * kGemvGroup + u) * kGemvWarps + warp;
    group.low[u] = load_weights(rows.low, chunk, q, K);
    group.high[u] = load_weights(rows.high, chunk, q, K);
  }
}

// The tokens' rows of x, as the product reads them: in global or shared memory.
template <class Element>
struct GemvInput {
  const Element* x;
  int64_t stride;
  int tokens, K;
};

template <class Element, bool kBlocks, int kTokenTiles>
__device__ __forceinline__ void load_tokens(uint4 (&x)[kTokenTiles], const GemvInput<Element>& input,
                                            int chunk, int g, int q) {
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) {
    const int token = 8 * n + g;
    const bool inside = token < input.tokens && 32 * chunk + (kBlocks ? 0 : 8 * q) < input.K;
    x[n] = inside ? load_x<Element, kBlocks>(input.x + token * input.stride, chunk, q) : uint4{0, 0, 0, 0};
  }
}

template <class Element, int kTokenTiles>
__device__ __forceinline__ void multiply_group(float (&d)[kTokenTiles][4], const GemvGroup& group,
                                               const GemvInput<Element>& input, int index, int warp, int g,
                                               int q) {
#pragma unroll
  for (int u = 0; u < kGemvGroup; ++u) {
    uint4 x[kTokenTiles];
    load_tokens<Element, false>(x, input, (index * kGemvGroup + u) * kGemvWarps + warp, g, q);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) multiply_chunk<Element>(d[n], group.low[u], group.high[u], x[n]);
  }
}

// The same from stored blocks, decoded to the activations' type.
template <class Element, DType kFormat, int kTokenTiles>
__device__ __forceinline__ void multiply_blocks(float (&d)[kTokenTiles][4], const GemvRows& rows,
                                                const GemvInput<Element>& input, int warp, int g, int q) {
  const int chunks = input.K / 32;
#pragma unroll 2
  for (int chunk = warp; chunk < chunks; chunk += kGemvWarps) {
    float w[2][8] = {};
    if (rows.low != nullptr) decode8<kFormat>(rows.low, chunk, q, w[0]);
    if (rows.high != nullptr) decode8<kFormat>(rows.high, chunk, q, w[1]);
    uint4 packed[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      packed[half] = {pack2<Element>(w[half][0], w[half][1]), pack2<Element>(w[half][2], w[half][3]),
                      pack2<Element>(w[half][4], w[half][5]), pack2<Element>(w[half][6], w[half][7])};
    uint4 x[kTokenTiles];
    load_tokens<Element, true>(x, input, chunk, g, q);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) multiply_chunk<Element>(d[n], packed[0], packed[1], x[n]);
  }
}

// Adds the warps' sums of a tile and hands them to the plan; one warp a token tile, another one each round.
template <class Plan, int kTokenTiles>
__device__ __forceinline__ void finish_tile(const Plan& plan, int tile, int round,
                                            const float (&d)[kTokenTiles][4], float4* sums) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // Two buffers: a warp may write the next tile's sums while another still adds these; it cannot be two
  // ahead.
  float4* buffer = sums + round % 2 * (kGemvWarps * kTokenTiles * 32);
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n)
    buffer[(warp * kTokenTiles + n) * 32 + lane] = {d[n][0], d[n][1], d[n][2], d[n][3]};
  __syncthreads();
  const int n = (warp + round) % kGemvWarps;
  if (n >= kTokenTiles) return;
  float sum[4] = {};
#pragma unroll
  for (int w = 0; w < kGemvWarps; ++w) {
    const float4 part = buffer[(w * kTokenTiles + n) * 32 + lane];
    sum[0] += part.x;
    sum[1] += part.y;
    sum[2] += part.z;
    sum[3] += part.w;
  }
  plan.store(tile, lane / 4, 8 * n + lane % 4 * 2, sum);
}

// Dynamic shared memory: the sums of two tiles, then the staged tokens.
__host__ __device__ constexpr int gemv_sum_bytes(int token_tiles) {
  return 2 * kGemvWarps * token_tiles * 32 * static_cast<int>(sizeof(float4));
}

// The whole kernel. `smem`: gemv_sum_bytes. `prepare` waits for the predecessor and returns the GemvInput.
template <class Element, bool kBlocks, int kTokenTiles, class Plan, class Prepare>
__device__ __forceinline__ void gemv(const Plan& plan, int tiles, int K, uint8_t* smem, Prepare prepare) {
  auto* sums = reinterpret_cast<float4*>(smem);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const int chunks = (K + 31) / 32;
  const int groups = (chunks + kGemvWarps * kGemvGroup - 1) / (kGemvWarps * kGemvGroup);
  int tile = blockIdx.x, round = 0;
  GemvRows rows = plan.rows(tile, g);
  if constexpr (kBlocks) {
    const GemvInput<Element> input = prepare();
    for (; tile < tiles; tile += gridDim.x, ++round) {
      rows = plan.rows(tile, g);
      float d[kTokenTiles][4] = {};
      with_format(rows.format,
                  [&]<DType kFormat>() { multiply_blocks<Element, kFormat>(d, rows, input, warp, g, q); });
      finish_tile(plan, tile, round, d, sums);
    }
  } else {
    GemvGroup next;
    load_group(next, rows, 0, warp, q, K);
    const GemvInput<Element> input = prepare();
    for (; tile < tiles; tile += gridDim.x, ++round) {
      float d[kTokenTiles][4] = {};
      for (int index = 0; index < groups; ++index) {
        const GemvGroup group = next;
        if (index + 1 < groups) {
          load_group(next, rows, index + 1, warp, q, K);
        } else if (tile + static_cast<int>(gridDim.x) < tiles) {
          rows = plan.rows(tile + static_cast<int>(gridDim.x), g);
          load_group(next, rows, 0, warp, q, K);
        }
        multiply_group<Element>(d, group, input, index, warp, g, q);
      }
      finish_tile(plan, tile, round, d, sums);
    }
  }
}

// Rows of x in shared memory as Element, padded so that the eight tokens of a fragment lie in different
// banks.
__host__ __device__ constexpr int64_t staged_stride(int64_t K) { return (K + 31) / 32 * 32 + 32; }

// What becomes of x (T, K) f32 on its way: nothing but rounding, or a norm.
struct GemvNorm {
  const float* weight;  // nullptr: no norm
  const float* bias;    // or nullptr
  NormKind kind;
  float eps;
};

// x (T, K), f32 or 16-bit, to shared memory. All threads; ends with a barrier.
template <class Element>
__device__ __forceinline__ GemvInput<Element> stage_tokens(Element* staged, const void* x, DType dtype,
                                                           int64_t stride, int tokens, int K,
                                                           const GemvNorm& norm) {
  const int64_t row_stride = staged_stride(K);
  for (int t = 0; t < tokens; ++t) {
    float mean = 0, inverse = 1;
    if (norm.weight != nullptr) {
      const float* row = static_cast<const float*>(x) + t * stride;
      if (norm.kind == NormKind::layer) {
        float sum = 0;
        for (int k = threadIdx.x; k < K; k += kGemvThreads) sum += row[k];
        mean = block_sum<kGemvWarps>(sum) / static_cast<float>(K);
      }
      float squares = 0;
#pragma unroll 4
      for (int k = threadIdx.x; k < K; k += kGemvThreads) squares += (row[k] - mean) * (row[k] - mean);
      inverse = 1.0f / sqrtf(block_sum<kGemvWarps>(squares) / static_cast<float>(K) + norm.eps);
    }
#pragma unroll 4
    for (int k = threadIdx.x; k < K; k += kGemvThreads) {
      float value = load_float(x, dtype, t * stride + k);
      if (norm.weight != nullptr) {
        value = (value - mean) * inverse * norm.weight[k];
        if (norm.bias != nullptr) value += norm.bias[k];
      }
      staged[t * row_stride + k] = from_f32<Element>(value);
    }
  }
  __syncthreads();
  return {staged, row_stride, tokens, K};
}

}  // namespace llamita::device

namespace llamita {

// Host side.

// 16 bytes at a time: rows of whole 8 elements. Block formats: whole chunks of 32.
inline bool gemv_supports_weight(const quant::Weight& weight) {
  if (weight.layout != quant::Layout::rows || weight.experts != 1 ||
      weight.parts.size() > device::kGemvMaxParts)
    return false;
  for (const quant::Part& part : weight.parts) {
    if (!device::is_cuda_weight_format(part.format) || part.rows > INT32_MAX) return false;
  }
  return true;
}

// All parts are of this 16-bit type, so that stored bytes are the fragments.
inline bool gemv_is_dense(const quant::Weight& weight, DType activation) {
  return weight.cols % 8 == 0 && std::all_of(weight.parts.begin(), weight.parts.end(),
                                             [&](const quant::Part& p) { return p.format == activation; });
}

inline device::GemvWeight gemv_weight(const quant::Weight& weight) {
  device::GemvWeight out{};
  int first_row = 0;
  for (const quant::Part& part : weight.parts) {
    out.parts[out.count++] = {.data = static_cast<const uint8_t*>(part.storage.data()),
                              .row_bytes = row_bytes(part.format, weight.cols),
                              .first_row = first_row,
                              .rows = static_cast<int>(part.rows),
                              .format = part.format};
    first_row += static_cast<int>(part.rows);
  }
  out.K = static_cast<int>(weight.cols);
  return out;
}

// Blocks of a gemv: two an SM are resident; more would only start later.
inline unsigned gemv_grid(const Caps& caps, int64_t tiles) {
  return static_cast<unsigned>(std::min<int64_t>(tiles, 2 * std::max(caps.sm_count, 1)));
}

inline constexpr int64_t kGemvStagedBytes = 100 * 1024;  // so that two blocks share an SM

// The most that fits beside the sums of 32 tokens: 227 KB a block on sm_90, 99 KB on the smallest sm_8x.
inline int64_t gemv_most_staged_bytes(const Caps& caps) { return (caps.arch >= 90 ? 190 : 64) * 1024; }

// The norm of a fused op.
template <class Args>
device::GemvNorm gemv_norm(const Args& args) {
  return {.weight = args.norm_weight.template ptr<float>(),
          .bias = data_or_null<float>(args.norm_bias),
          .kind = args.norm_kind,
          .eps = args.norm_eps};
}

inline int64_t gemv_staged_bytes(int64_t tokens, int64_t K) { return tokens * device::staged_stride(K) * 2; }

}  // namespace llamita
