// Online-softmax attention over a paged cache, as a template over the vector struct S.
//
// A page of keys and values of one KV head is decoded to f32 once (64 x D floats each, in L1 and L2) and used
// for all query heads of the group and all rows of the item. What one row and head computes depends on the
// position, the window and the page borders alone:
//   scores    q . k in S::kLanes lanes over ascending d, lanes added in S::sum's tree, times scale
//   page      m' = max(m, scores of the page); p = e^(s - m'); l = l e^(m - m') + sum of p, lanes first
//   output    o = o e^(m - m') + p_j v_j over ascending keys; o / l at the end
// so prefill and decode, every chunking and batch give the same bits. Keys a row does not see are never read.
//
// Bound: prefill by the FMA ports, decode by decoding the page (two loads, two converts a vector against
// 2 x group FMAs).
#pragma once

#include "hw/cpu/simd_math.h"
#include "ops/attention/kernels.h"
#include "quant/kv_format.h"

namespace llamita {

template <class S>
struct PagedAttention {
  using F = typename S::F;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kPage = kPageTokens;

  alignas(64) float keys[kPage * kMaxHeadDim];
  alignas(64) float values[kPage * kMaxHeadDim];
  alignas(64) float scores[kPage];
  float largest[kMaxQueries];  // m of each query
  float sums[kMaxQueries];     // l

  // Keys or values [begin, end) of a page as f32 rows of D; an f32 cache is used where it is.
  static const float* decode(const AttentionJob& job, const void* cache, int64_t page, int begin, int end,
                             float* to) {
    const int64_t first = page * job.page_stride;
    if (job.dtype == DType::f32) return static_cast<const float*>(cache) + first;
    const auto* from = static_cast<const uint16_t*>(cache) + first;
    if (job.dtype == DType::f16) {
      for (int64_t i = begin * job.D; i < end * job.D; i += kLanes) S::store(to + i, S::load_f16(from + i));
    } else {
      for (int64_t i = begin * job.D; i < end * job.D; i += kLanes) S::store(to + i, S::load_bf16(from + i));
    }
    return to;
  }

  template <int kKeys>
  [[gnu::always_inline]] void score_keys(const AttentionJob& job, const float* q, const float* k, int j) {
    F dots[kKeys];
    for (int i = 0; i < kKeys; ++i) dots[i] = S::zero();
    for (int64_t d = 0; d < job.D; d += kLanes) {
      const F part = S::load(q + d);
      for (int i = 0; i < kKeys; ++i) dots[i] = S::fma(part, S::load(k + (j + i) * job.D + d), dots[i]);
    }
    for (int i = 0; i < kKeys; ++i) scores[j + i] = S::sum(dots[i]) * job.scale;
  }

  // out = out * shrink + p_j v_j for kVectors vectors of D from d.
  template <int kVectors>
  [[gnu::always_inline]] void weigh_values(const AttentionJob& job, const float* v, int begin, int end,
                                           float shrink, float* out) {
    F sum[kVectors];
    for (int i = 0; i < kVectors; ++i) sum[i] = S::mul(S::load(out + i * kLanes), S::set(shrink));
    for (int j = begin; j < end; ++j) {
      const F p = S::set(scores[j]);
      for (int i = 0; i < kVectors; ++i) sum[i] = S::fma(p, S::load(v + j * job.D + i * kLanes), sum[i]);
    }
    for (int i = 0; i < kVectors; ++i) S::store(out + i * kLanes, sum[i]);
  }

  // One query against keys [begin, end) of a page.
  void attend_page(const AttentionJob& job, const float* q, float* out, int query, const float* k,
                   const float* v, int begin, int end) {
    const float none = -__builtin_inff();
    for (int j = 0; j < kPage; ++j) scores[j] = none;
    int j = begin;
    for (; j + 4 <= end; j += 4) score_keys<4>(job, q, k, j);
    for (; j < end; ++j) score_keys<1>(job, q, k, j);

    F most = S::load(scores);
    for (int i = kLanes; i < kPage; i += kLanes) most = S::max(most, S::load(scores + i));
    const float page_largest = S::largest(most);
    const float new_largest = page_largest > largest[query] ? page_largest : largest[query];
    F sum = S::zero();
    for (int i = 0; i < kPage; i += kLanes) {
      const F p = cpu::exp<S>(S::add(S::load(scores + i), S::set(-new_largest)));
      S::store(scores + i, p);
      sum = S::add(sum, p);
    }
    // The first page has nothing to shrink: e^-inf is 0.
    alignas(64) float shrink[kLanes];
    S::store(shrink, cpu::exp<S>(S::set(largest[query] - new_largest)));
    sums[query] = sums[query] * shrink[0] + S::sum(sum);
    largest[query] = new_largest;

    int64_t d = 0;
    for (; d + 4 * kLanes <= job.D; d += 4 * kLanes)
      weigh_values<4>(job, v + d, begin, end, shrink[0], out + d);
    for (; d < job.D; d += kLanes) weigh_values<1>(job, v + d, begin, end, shrink[0], out + d);
  }

  void run(const AttentionJob& job) {
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      largest[i] = -__builtin_inff();
      sums[i] = 0;
      float* out = job.out + i / job.group * job.out_stride + i % job.group * job.D;
      for (int64_t d = 0; d < job.D; d += kLanes) S::store(out + d, S::zero());
    }
    const int64_t last_position = end_key_of(job, job.first_position + job.rows - 1) - 1;
    const int64_t first_key = first_key_of(job, job.first_position);
    for (int64_t page = first_key / kPage; page <= last_position / kPage; ++page) {
      const int64_t base = page * kPage;
      const int begin = within_page(first_key - base), end = within_page(last_position + 1 - base);
      const float* k = decode(job, job.k_cache, job.pages[page], begin, end, keys);
      const float* v = decode(job, job.v_cache, job.pages[page], begin, end, values);
      for (int64_t row = 0; row < job.rows; ++row) {
        const int64_t position = job.first_position + row;
        const int from = within_page(first_key_of(job, position) - base),
                  to = within_page(end_key_of(job, position) - base);
        if (from >= to) continue;
        for (int64_t head = 0; head < job.group; ++head) {
          attend_page(job, job.q + row * job.q_stride + head * job.D,
                      job.out + row * job.out_stride + head * job.D, static_cast<int>(row * job.group + head),
                      k, v, from, to);
        }
      }
    }
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      float* out = job.out + i / job.group * job.out_stride + i % job.group * job.D;
      for (int64_t d = 0; d < job.D; d += kLanes)
        S::store(out + d, S::div(S::load(out + d), S::set(sums[i])));
    }
  }

  static int64_t first_key_of(const AttentionJob& job, int64_t position) {
    return job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  }
  static int64_t end_key_of(const AttentionJob& job, int64_t position) {
    return job.keys > 0 ? job.keys : position + 1;
  }
  static int within_page(int64_t key) { return static_cast<int>(key < 0 ? 0 : key > kPage ? kPage : key); }
};

}  // namespace llamita
