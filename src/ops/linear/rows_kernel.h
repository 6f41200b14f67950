// The kernel for few tokens, as a template over the vector struct S. R rows x T tokens share the registers: a
// group of 32 weights is decoded once and multiplied with T tokens; R rows run side by side because one
// accumulator's chain of FMAs has a latency of four cycles.
//
// At T = 1 the work is the decoding: about 26 instructions for 32 weights of Q4_1, 8 of them on the FMA
// ports. Bound by the core, not by DRAM, until several cores share a memory channel.
#pragma once

#include "ops/linear/decode.h"
#include "ops/linear/kernels.h"

namespace llamita {

template <class S>
[[gnu::always_inline]] static inline void write_output(const LinearJob& job, int64_t t, int64_t n,
                                                       typename S::F accumulator) {
  float value = S::sum(accumulator);
  if (job.bias != nullptr) value += job.bias[n];
  if (job.residual != nullptr) value += job.residual[t * job.residual_stride + n];
  job.out[t * job.out_stride + n] = value;
}

template <class S, template <class> class Format, int R, int T>
static void rows_tile(const LinearJob& job, int64_t n, int64_t t) {
  using F = typename S::F;
  constexpr int kVectors = 32 / S::kLanes;
  const uint8_t* row = job.weight + n * job.weight_stride;
  const float* x = job.x + t * job.x_stride;
  F sums[R][T];
  for (int r = 0; r < R; ++r) {
    for (int u = 0; u < T; ++u) sums[r][u] = S::zero();
  }
  const int64_t groups = (job.K + 31) / 32, group_bytes = job.weight_stride / groups;
  for (int64_t g = 0; g < groups; ++g) {
    for (int r = 0; r < R; ++r) {
      F weights[kVectors];
      // What these registers multiply next: the processor's own prefetcher begins anew at each row.
      for (int64_t line = 0; line < group_bytes; line += 64) {
        __builtin_prefetch(row + (R + r) * job.weight_stride + g * group_bytes + line);
      }
      decode::group_of<S, Format>(row + r * job.weight_stride, job.K, g, weights);
      for (int i = 0; i < kVectors; ++i) {
        for (int u = 0; u < T; ++u) {
          const F values = S::load(x + u * job.x_stride + g * 32 + i * S::kLanes);
          sums[r][u] = S::fma(weights[i], values, sums[r][u]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int u = 0; u < T; ++u) write_output<S>(job, t + u, n + r, sums[r][u]);
  }
}

// All rows of [begin, end) for the T tokens from t.
template <class S, template <class> class Format, int R, int T>
static void rows_of_tokens(const LinearJob& job, int64_t begin, int64_t end, int64_t t) {
  int64_t n = begin;
  for (; n + R <= end; n += R) rows_tile<S, Format, R, T>(job, n, t);
  for (; n < end; ++n) rows_tile<S, Format, 1, T>(job, n, t);
}

template <class S>
static void linear_rows(const LinearJob& job, int64_t begin, int64_t end) {
  decode::with_format(job.format, [&]<template <class> class Format>() {
    int64_t t = 0;
    for (; t + 4 <= job.T; t += 4) rows_of_tokens<S, Format, 2, 4>(job, begin, end, t);
    for (; t + 2 <= job.T; t += 2) rows_of_tokens<S, Format, 2, 2>(job, begin, end, t);
    for (; t < job.T; ++t) rows_of_tokens<S, Format, 4, 1>(job, begin, end, t);
  });
}

}  // namespace llamita
