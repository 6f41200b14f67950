// The epilogue of the Hopper GEMM: accumulators to the output, by stmatrix and the copy engine.
#pragma once

#include <type_traits>

#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/tile_store.cuh"
#include "ops/activation/device.cuh"
#include "ops/linear/gemm_sm90_config.cuh"

namespace llamita::gemm_sm90_detail {

// Added to the sums of a finished tile. Columns beyond the matrix get the last one's: they are never stored.
template <class C>
__device__ __forceinline__ void add_bias(const Params& p, float (&sum)[C::kWidth / 2], int column0,
                                         int lane) {
  constexpr int kBlocks = C::kOutWidth / 8;  // of eight columns; behind them those of up, when gated
#pragma unroll
  for (int j = 0; j < C::kWidth / 8; ++j) {
    const float* bias = C::kEpilogue == Epilogue::gated && j >= kBlocks ? p.bias_up : p.bias;
    const int n = column0 + j % kBlocks * 8 + lane % 4 * 2;
    const float low = __ldg(bias + min(n, p.columns - 1)), high = __ldg(bias + min(n + 1, p.columns - 1));
    sum[4 * j] += low, sum[4 * j + 2] += low;
    sum[4 * j + 1] += high, sum[4 * j + 3] += high;
  }
}

// What a thread holds of a chunk that is to be stored: fp32, or pairs of 16-bit outputs in half the
// registers.
template <class C>
using ChunkOut =
    std::conditional_t<C::kEpilogue == Epilogue::f32, float[C::kChunk / 2], uint32_t[C::kChunk / 4]>;

// `sum`: the chunk's; when gated, `up` those of the other half.
template <class C>
__device__ __forceinline__ void finish_chunk(const Params& p, const float* sum, const float* up,
                                             ChunkOut<C>& out) {
  if constexpr (C::kEpilogue == Epilogue::element) {
    if (p.activated) {
#pragma unroll
      for (int i = 0; i < C::kChunk / 2; i += 2)
        out[i / 2] = device::pack_pair<typename C::Element>(device::activate(p.activation, sum[i]),
                                                            device::activate(p.activation, sum[i + 1]));
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < C::kChunk / 2; i += 2) {
    float2 v = make_float2(sum[i], sum[i + 1]);
    if constexpr (C::kEpilogue == Epilogue::gated)
      v = make_float2(device::activate_gate(p.activation, v.x) * up[i],
                      device::activate_gate(p.activation, v.y) * up[i + 1]);
    if constexpr (C::kEpilogue == Epilogue::f32)
      out[i] = v.x, out[i + 1] = v.y;
    else
      out[i / 2] = device::pack_pair<typename C::Element>(v.x, v.y);
  }
}

// One chunk, 16 rows, to the warp's buffer. 16-bit: a stmatrix moves 16 columns. fp32: rows of 128 bytes,
// each thread eight bytes of rows lane / 4 and + 8.
template <class C>
__device__ __forceinline__ void fill_chunk(uint8_t* buffer, const ChunkOut<C>& out, int lane) {
  if constexpr (C::kEpilogue == Epilogue::f32) {
#pragma unroll
    for (int j = 0; j < C::kChunk / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = 4 * j + 2 * half;
        *reinterpret_cast<float2*>(buffer +
                                   device::swizzled_byte(lane / 4 + 8 * half, (8 * j + lane % 4 * 2) * 4)) =
            make_float2(out[i], out[i + 1]);
      }
  } else {
#pragma unroll
    for (int pair = 0; pair < C::kChunk / 16; ++pair) {
      const int i = pair * 4;
      // Rows of 128 bytes, or of 64, where two rows share a line of 128 and the permutation moves with it.
      const int row = lane & 15, piece = pair * 2 + (lane >> 4);
      const uint32_t at =
          C::kChunk == 64 ? device::swizzled_piece(row, piece) : row * 64 + ((piece ^ (row >> 1 & 3)) << 4);
      ptx::stmatrix_x4(buffer + at, out[i], out[i + 1], out[i + 2], out[i + 3]);
    }
  }
}

// A chunk of 16 rows at (row, column) of the output through buffer `next` of the warp's, and on to the one
// after it.
template <class C>
__device__ __forceinline__ void store_chunk(const Params& p, uint8_t (&buffers)[C::kBuffers][C::kChunkBytes],
                                            const ChunkOut<C>& out, int row, int column, int& next,
                                            int lane) {
  uint8_t* buffer = buffers[next];
  next = next + 1 == C::kBuffers ? 0 : next + 1;
  if (lane == 0) ptx::tma_store_wait_read<C::kBuffers - 1>();
  __syncwarp();
  fill_chunk<C>(buffer, out, lane);
  ptx::fence_proxy_async_smem();
  __syncwarp();
  if (lane == 0) {
    if (C::kEpilogue == Epilogue::f32 && p.add)
      ptx::tma_add_2d(&p.out, buffer, column, row);
    else
      ptx::tma_store_2d(&p.out, buffer, column, row);
    ptx::tma_store_commit();
  }
}

}  // namespace llamita::gemm_sm90_detail
