// What crosses from the generic code of linear into the per-ISA files: plain pointers, one part of a weight.
//
// Accumulation, the same in every kernel of one instruction set, so that all give the same bits: an output
// has one accumulator of as many lanes as a register has floats; lane l takes elements k = l modulo lanes, in
// ascending order, by fused multiply-add; then the lanes are added in the fixed tree of S::sum, then the
// bias, then the residual.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace llamita {

struct LinearJob {
  const uint8_t* weight;  // (N, K), rows `weight_stride` bytes apart
  int64_t weight_stride;
  bool
      interleaved;  // groups of eight rows, 8 * weight_stride apart: quant/interleave.h; integer kernels only
  DType format;
  int64_t K;
  const float* x;  // (T, groups of 32 that hold K): zeros after K
  int64_t x_stride;
  const float* x_tiles;  // for _panel: panel_tile() below
  int64_t T;
  const float* bias;      // (N) or nullptr
  const float* residual;  // (T, N) or nullptr
  int64_t residual_stride;
  float* out;  // (T, N)
  int64_t out_stride;
};

// Outputs of rows [begin, end) of the part. _rows decodes a row in registers and multiplies it with one to
// four tokens at a time; _panel decodes kPanelRows rows into L2 and multiplies them with all tokens in tiles,
// or with AVX-512 decodes in registers while there are no more than kStreamTokens (stream_kernel.h).
inline constexpr int kPanelRows = 48, kPanelTokens = 4, kPanelChunk = 256;
// x for _panel is tiles of kPanelTokens tokens by kPanelChunk elements: a vector of each token, then the next
// of each. The tiles of all tokens lie beside each other, then those of the next chunk: K floats apart they
// would share a few sets of L2. The last chunk is shorter; zeros after K.
constexpr int64_t panel_tile(int64_t K, int64_t T, int64_t t, int64_t k) {
  const int64_t padded = (K + 31) / 32 * 32, tiles = (T + kPanelTokens - 1) / kPanelTokens;
  const int64_t width = padded - k < kPanelChunk ? padded - k : kPanelChunk;
  return (k * tiles + t / kPanelTokens * width) * kPanelTokens;  // for k a multiple of kPanelChunk
}
// Two passes over the rows in registers: 5.4 ms for 4096 x 4096 of bf16 and 16 tokens where the panels took
// 8.3; four would take what the panels take.
inline constexpr int64_t kStreamTokens = 16;
void linear_rows_avx2(const LinearJob& job, int64_t begin, int64_t end);
void linear_panel_avx2(const LinearJob& job, int64_t begin, int64_t end);
void linear_rows_avx512(const LinearJob& job, int64_t begin, int64_t end);
void linear_panel_avx512(const LinearJob& job, int64_t begin, int64_t end);

// bf16 weights by activations rounded to bf16; plain.x is not read. Its order is in cpu_bf16_avx512.cc.
struct Bf16Job {
  LinearJob plain;
  const uint16_t* x;  // (T, groups of 32 that hold K): zeros after K
  int64_t x_stride;
};
// To nearest even, with zeros up to a whole group of 32.
void bf16_round_row_avx512(const float* x, int64_t K, uint16_t* to);
inline constexpr int64_t kBf16BlockRows = 32;
void bf16_multiply_avx512(const Bf16Job& job, int64_t begin, int64_t end);

}  // namespace llamita
