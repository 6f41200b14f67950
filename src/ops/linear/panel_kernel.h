// The kernel for many tokens, as a template over the vector struct S.
//
// A panel is kPanelRows rows by kChunk elements, decoded into f32 once for kBlockTokens tokens: 48 KiB in L2.
// kL1Rows of its rows at a time stay in L1, 12 KiB, while the tokens go by in tiles of four: their 4 KiB come
// from L2 once for these rows, 8 to 10 bytes a cycle with the waiting sums. A tile keeps one vector a row and
// token in registers: with AVX2 3 x 4 of 16, with AVX-512 6 x 4 of 32; a step of 12 FMAs loads 7 vectors
// (24: 10), so the FMA ports bind. Weights and tokens lie in the order in which a tile reads them: rows of x
// are K floats apart, and four of them would share one half of L1's sets. Between chunks the accumulators
// wait in `partial`, lanes and all, because adding the lanes early would change the order of accumulation
// that the kernel for few tokens has.
#pragma once

#include "ops/linear/rows_kernel.h"

namespace llamita {

template <class S>
struct Panel {
  using F = typename S::F;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kTileRows = kLanes == 16 ? 6 : 3;
  static constexpr int kL1Rows = 12;
  static constexpr int kChunk = kPanelChunk, kChunkGroups = kChunk / 32;
  static constexpr int kBlockTokens = 16 * kPanelTokens;
  static constexpr int kTileFloats = kTileRows * kPanelTokens * kLanes;  // of sums
  static_assert(kPanelRows % kL1Rows == 0 && kL1Rows % kTileRows == 0);

  // Of a tile's rows, a vector of each in turn.
  using TileWeights = float[kChunk / kLanes][kTileRows][kLanes];
  alignas(64) TileWeights weights[kPanelRows / kTileRows];
  alignas(64) float partial[kBlockTokens / kPanelTokens * (kPanelRows / kTileRows) * kTileFloats];

  template <template <class> class Format>
  void decode_rows(const LinearJob& job, int64_t n, int rows, int64_t g_begin, int groups) {
    // With few tokens the panels wait for DRAM: the next chunk of each row comes while this one is decoded
    // and multiplied, at the end of the rows that of the next panel.
    const int64_t all = (job.K + 31) / 32, group_bytes = job.weight_stride / all;
    const int64_t next =
        g_begin + groups < all ? (g_begin + groups) * group_bytes : kPanelRows * job.weight_stride;
    for (int r = 0; r < rows; ++r) {
      const uint8_t* row = job.weight + (n + r) * job.weight_stride;
      for (int64_t line = 0; line < groups * group_bytes; line += 64) __builtin_prefetch(row + next + line);
      float* to = weights[r / kTileRows][0][r % kTileRows];
      for (int g = 0; g < groups; ++g) {
        F values[32 / kLanes];
        decode::group_of<S, Format>(row, job.K, g_begin + g, values);
        for (int i = 0; i < 32 / kLanes; ++i, to += kTileRows * kLanes) S::store(to, values[i]);
      }
    }
  }

  struct Tile {
    const float* weights;  // TileWeights
    const float* x;        // (elems / kLanes, kPanelTokens, kLanes)
    int elems;
    int rows;  // that there are
    int64_t n, t;
    float* partial;    // (kTileRows, T, kLanes)
    bool first, last;  // chunk of K
  };

  // One step of K; `partial` carries the accumulators unless this is the first or last chunk. A function of
  // its own for each T, so that none costs another registers.
  template <int T>
  [[gnu::noinline]] static void tile(const LinearJob& job, const Tile& at) {
    F sums[kTileRows][T];
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
      for (int u = 0; u < T; ++u) {
        sums[r][u] = at.first ? S::zero() : S::load(at.partial + (r * T + u) * kLanes);
      }
    }
    const float *weights = at.weights, *x = at.x, *end = weights + at.elems * kTileRows;
    for (; weights != end; weights += kTileRows * kLanes, x += kPanelTokens * kLanes) {
      F w[kTileRows];
#pragma GCC unroll 8
      for (int r = 0; r < kTileRows; ++r) w[r] = S::keep(S::load(weights + r * kLanes));
#pragma GCC unroll 8
      for (int u = 0; u < T; ++u) {
        const F values = S::keep(S::load(x + u * kLanes));
#pragma GCC unroll 8
        for (int r = 0; r < kTileRows; ++r) sums[r][u] = S::fma(w[r], values, sums[r][u]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
      for (int u = 0; u < T; ++u) {
        if (!at.last) {
          S::store(at.partial + (r * T + u) * kLanes, sums[r][u]);
        } else if (r < at.rows) {
          write_output<S>(job, at.t + u, at.n + r, sums[r][u]);
        }
      }
    }
  }

  // One decoded chunk, from element k on, against tokens [t_begin, t_end).
  void multiply(const LinearJob& job, int elems, int64_t k, int64_t n, int rows, int64_t t_begin,
                int64_t t_end) {
    const bool first = k == 0, last = k + elems >= job.K;
    // The tokens of the next chunk come into L2 meanwhile, a share of them with every tile.
    constexpr int kTiles = kBlockTokens / kPanelTokens * (kPanelRows / kTileRows);
    constexpr int kShare = kBlockTokens * kChunk / kTiles;  // floats
    const float* next = job.x_tiles + (last ? panel_tile(job.K, job.T, t_end < job.T ? t_end : 0, 0)
                                            : panel_tile(job.K, job.T, t_begin, k + kChunk));
    float* waiting = partial;
    for (int begin = 0; begin < rows; begin += kL1Rows) {
      const int end = begin + kL1Rows < rows ? begin + kL1Rows : rows;
      for (int64_t t = t_begin; t < t_end; t += kPanelTokens) {
        const float* x = job.x_tiles + panel_tile(job.K, job.T, t, k);
        for (int r = begin; r < end; r += kTileRows, waiting += kTileFloats, next += kShare) {
          for (int line = 0; line < kShare; line += 16) __builtin_prefetch(next + line, 0, 2);
          run_tile<kPanelTokens>(t_end - t, job,
                                 {.weights = weights[r / kTileRows][0][0],
                                  .x = x,
                                  .elems = elems,
                                  .rows = rows - r,
                                  .n = n + r,
                                  .t = t,
                                  .partial = waiting,
                                  .first = first,
                                  .last = last});
        }
      }
    }
  }

  // The tile of as many tokens as there are, at most T.
  template <int T>
  static void run_tile(int64_t tokens, const LinearJob& job, const Tile& at) {
    if constexpr (T > 1) {
      if (tokens < T) return run_tile<T - 1>(tokens, job, at);
    }
    tile<T>(job, at);
  }

  void run(const LinearJob& job, int64_t n, int rows) {
    const int64_t groups = (job.K + 31) / 32;
    // Rows past the end are computed and not written: they must hold numbers, not what was on the stack.
    for (int r = rows; r < kPanelRows; ++r) {
      for (int i = 0; i < kChunk / kLanes; ++i) {
        S::store(weights[r / kTileRows][i][r % kTileRows], S::zero());
      }
    }
    for (int64_t t = 0; t < job.T; t += kBlockTokens) {
      const int64_t t_end = t + kBlockTokens < job.T ? t + kBlockTokens : job.T;
      for (int64_t g = 0; g < groups; g += kChunkGroups) {
        const int chunk = static_cast<int>(g + kChunkGroups < groups ? kChunkGroups : groups - g);
        decode::with_format(job.format, [&]<template <class> class Format>() {
          decode_rows<Format>(job, n, rows, g, chunk);
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
