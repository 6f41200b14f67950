// The kernel for a handful of tokens, as a template over the vector struct S with 32 registers.
//
// Three rows by eight tokens (six by four) have a sum each in registers, while the rows stream from memory
// once: what binds is reading them, as long as the 24 multiply-adds of a step of 16 elements hide behind the
// 96 bytes of bf16 it reads. The panels (panel_kernel.h) decode first and multiply then, and memory waits
// meanwhile. x comes from L2 once for these rows, in the panels' tiles, because eight rows of it K floats
// apart would share the sets of L1 with the rows of the weight. The order is that of kernels.h.
#pragma once

#include "ops/linear/rows_kernel.h"

namespace llamita {

// Sums of kRows rows from n on, by the tokens of kTiles tiles from token t on. Rows past the end repeat the
// last one; tokens past the last are zeros in their tile.
template <class S, template <class> class Format, int kRows, int kTiles>
[[gnu::noinline]] static void stream_rows(const LinearJob& job, int64_t n, int64_t end, int64_t t) {
  using F = typename S::F;
  constexpr int kVectors = 32 / S::kLanes, kTokens = kTiles * kPanelTokens;
  const int64_t groups = (job.K + 31) / 32, group_bytes = job.weight_stride / groups;
  const uint8_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = job.weight + (n + r < end ? n + r : end - 1) * job.weight_stride;
  F sums[kRows][kTokens];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int u = 0; u < kTokens; ++u) sums[r][u] = S::zero();
  }
  // The rows after these come into L2 meanwhile; for further tokens they are there.
  const int64_t ahead = t == 0 ? kRows * job.weight_stride : 0;
  constexpr int kChunkGroups = kPanelChunk / 32;
  for (int64_t chunk = 0; chunk < groups; chunk += kChunkGroups) {
    const int64_t chunk_end = chunk + kChunkGroups < groups ? chunk + kChunkGroups : groups;
    const float* x[kTiles];
    for (int i = 0; i < kTiles; ++i)
      x[i] = job.x_tiles + panel_tile(job.K, job.T, t + i * kPanelTokens, 32 * chunk);
    for (int64_t g = chunk; g < chunk_end; ++g) {
      for (int64_t line = 0; ahead != 0 && line < group_bytes; line += 64) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) __builtin_prefetch(rows[r] + ahead + g * group_bytes + line, 0, 2);
      }
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        F w[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          F group[kVectors];
          decode::group_of<S, Format>(rows[r], job.K, g, group);
          w[r] = S::keep(group[i]);
        }
#pragma GCC unroll 8
        for (int u = 0; u < kTokens; ++u) {
          const F values = S::keep(S::load(x[u / kPanelTokens] + u % kPanelTokens * S::kLanes));
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) sums[r][u] = S::fma(w[r], values, sums[r][u]);
        }
        for (int tile = 0; tile < kTiles; ++tile) x[tile] += kPanelTokens * S::kLanes;
      }
    }
  }
#pragma GCC unroll 8
  for (int u = 0; u < kTokens; ++u) {
    if (t + u >= job.T) break;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if (n + r < end) write_output<S>(job, t + u, n + r, sums[r][u]);
    }
  }
}

template <class S>
static void linear_stream(const LinearJob& job, int64_t begin, int64_t end) {
  decode::with_format(job.format, [&]<template <class> class Format>() {
    const bool one_tile = job.T <= kPanelTokens;
    for (int64_t n = begin; n < end; n += one_tile ? 6 : 3) {
      if (one_tile) {
        stream_rows<S, Format, 6, 1>(job, n, end, 0);
        continue;
      }
      for (int64_t t = 0; t < job.T; t += 2 * kPanelTokens) {
        // A second tile that is not there would be that of the next chunk, or nothing.
        if (job.T - t > kPanelTokens) {
          stream_rows<S, Format, 3, 2>(job, n, end, t);
        } else {
          stream_rows<S, Format, 3, 1>(job, n, end, t);
        }
      }
    }
  });
}

}  // namespace llamita
