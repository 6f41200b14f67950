// The kernel for many tokens, as a template over the vector struct S.
//
// A panel is kPanelRows rows by kChunk elements, decoded into f32 once for kBlockTokens tokens: 96 KiB, which
// stay in L2 while tiles of kTileRows x 4 tokens run over them; the four tokens' 8 KiB stay in L1. A tile
// keeps one vector a row and token in registers: with AVX2 3 x 4 of 16, with AVX-512 6 x 4 of 32; a step of
// 12 FMAs loads 7 vectors (24: 10), so the FMA ports bind. What must come from further away are the
// activations, 4 T K bytes for every panel: with twelve rows they were 5 bytes a cycle, as much as DRAM gives
// a core, and half the time. Between chunks the accumulators wait in `partial`, lanes and all, because adding
// the lanes early would change the order of accumulation that the kernel for few tokens has.
#pragma once

#include "ops/linear/rows_kernel.h"

namespace llamita {

template <class S>
struct Panel {
  using F = typename S::F;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kTileRows = kLanes == 16 ? 6 : 3;
  static constexpr int kTileTokens = 4;
  static constexpr int kChunkGroups = 16;
  static constexpr int kChunk = 32 * kChunkGroups;
  static constexpr int kBlockTokens = 64;
  static constexpr int kTileFloats = kTileRows * kTileTokens * kLanes;

  alignas(64) float weights[kPanelRows][kChunk];
  alignas(64) float partial[kBlockTokens / kTileTokens * (kPanelRows / kTileRows) * kTileFloats];

  template <template <class> class Format>
  static void decode_rows(const LinearJob& job, int64_t n, int rows, int64_t g_begin, int groups,
                          float (*weights)[kChunk]) {
    // With few tokens the panels wait for DRAM: the next chunk of each row comes while this one is decoded and
    // multiplied, at the end of the rows that of the next panel.
    const int64_t all = (job.K + 31) / 32, group_bytes = job.weight_stride / all;
    const int64_t next = g_begin + groups < all ? (g_begin + groups) * group_bytes : kPanelRows * job.weight_stride;
    for (int r = 0; r < rows; ++r) {
      const uint8_t* row = job.weight + (n + r) * job.weight_stride;
      for (int64_t line = 0; line < groups * group_bytes; line += 64) __builtin_prefetch(row + next + line);
      for (int g = 0; g < groups; ++g) {
        F values[32 / kLanes];
        decode::group_of<S, Format>(row, job.K, g_begin + g, values);
        for (int i = 0; i < 32 / kLanes; ++i) S::store(weights[r] + g * 32 + i * kLanes, values[i]);
      }
    }
  }

  // One step of K over a tile; `partial` carries the accumulators unless this is the first or last chunk.
  template <int T>
  static void tile(const LinearJob& job, const float (*weights)[kChunk], int elems, int64_t t, int64_t k,
                   int64_t n, int rows, bool first, bool last, float* partial) {
    const float* x = job.x + t * job.x_stride + k;
    F sums[kTileRows][T];
    for (int r = 0; r < kTileRows; ++r) {
      for (int u = 0; u < T; ++u) sums[r][u] = first ? S::zero() : S::load(partial + (r * T + u) * kLanes);
    }
    for (int e = 0; e < elems; e += kLanes) {
      F w[kTileRows];
      for (int r = 0; r < kTileRows; ++r) w[r] = S::load(weights[r] + e);
      for (int u = 0; u < T; ++u) {
        const F values = S::load(x + u * job.x_stride + e);
        for (int r = 0; r < kTileRows; ++r) sums[r][u] = S::fma(w[r], values, sums[r][u]);
      }
    }
    if (last) {
      for (int r = 0; r < kTileRows; ++r) {
        if (r >= rows) break;
        for (int u = 0; u < T; ++u) write_output<S>(job, t + u, n + r, sums[r][u]);
      }
      return;
    }
    for (int r = 0; r < kTileRows; ++r) {
      for (int u = 0; u < T; ++u) S::store(partial + (r * T + u) * kLanes, sums[r][u]);
    }
  }

  // One decoded chunk, from element k on, against tokens [t_begin, t_end).
  void multiply(const LinearJob& job, int elems, int64_t k, int64_t n, int rows, int64_t t_begin,
                int64_t t_end) {
    const bool first = k == 0, last = k + elems >= job.K;
    // What comes from L2 for each tile is its weights or its activations: whichever are fewer vectors. The
    // other ones stay in L1 through the inner loop.
    constexpr bool kRowsOutside = kTileTokens < kTileRows;
    const int row_tiles = (rows + kTileRows - 1) / kTileRows;
    const auto token_tiles = static_cast<int>((t_end - t_begin + kTileTokens - 1) / kTileTokens);
    for (int i = 0; i < row_tiles * token_tiles; ++i) {
      const int r = (kRowsOutside ? i / token_tiles : i % row_tiles) * kTileRows;
      const int64_t t = t_begin + (kRowsOutside ? i % token_tiles : i / row_tiles) * kTileTokens;
      // The rows of x are far apart, so that the processor's own prefetcher starts anew at each.
      for (int64_t next = t + kTileTokens; r == 0 && next < t + 2 * kTileTokens && next < t_end; ++next) {
        for (int e = 0; e < elems; e += 16) __builtin_prefetch(job.x + next * job.x_stride + k + e);
      }
      const int64_t tokens = t_end - t;
      const auto run = tokens >= 4 ? tile<4> : tokens == 3 ? tile<3> : tokens == 2 ? tile<2> : tile<1>;
      run(job, weights + r, elems, t, k, n + r, rows - r, first, last, partial + int64_t{i} * kTileFloats);
    }
  }

  void run(const LinearJob& job, int64_t n, int rows) {
    const int64_t groups = (job.K + 31) / 32;
    // Rows past the end are computed and not written: they must hold numbers, not what was on the stack.
    for (int r = rows; r < kPanelRows; ++r) {
      for (int e = 0; e < kChunk; e += kLanes) S::store(weights[r] + e, S::zero());
    }
    for (int64_t t = 0; t < job.T; t += kBlockTokens) {
      const int64_t t_end = t + kBlockTokens < job.T ? t + kBlockTokens : job.T;
      for (int64_t g = 0; g < groups; g += kChunkGroups) {
        const int chunk = static_cast<int>(g + kChunkGroups < groups ? kChunkGroups : groups - g);
        decode::with_format(job.format, [&]<template <class> class Format>() {
          decode_rows<Format>(job, n, rows, g, chunk, weights);
        });
        multiply(job, 32 * chunk, 32 * g, n, rows, t, t_end);
      }
    }
  }
};

template <class S>
static void linear_panel(const LinearJob& job, int64_t begin, int64_t end) {
  Panel<S> panel;
  for (int64_t n = begin; n < end; n += kPanelRows) {
    panel.run(job, n, static_cast<int>(n + kPanelRows < end ? kPanelRows : end - n));
  }
}

}  // namespace llamita
