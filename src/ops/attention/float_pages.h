// A page of an f32, f16 or bf16 cache for the kernels of paged_kernel.h: decoded to f32 once (64 x D floats
// of keys and of values, in L1 and L2) and used for all query heads of the group and all rows of the item.
//   scores  q . k in S::kLanes lanes over ascending d, lanes added in S::sum's tree, times scale
//   output  o = o shrink + p_j v_j over ascending keys
// Keys a row does not see are never read.
//
// Bound: prefill by the FMA ports, decode by decoding the page (two loads, two converts a vector against
// 2 x group FMAs).
#pragma once

#include "ops/attention/kernels.h"

namespace llamita {

template <class S>
class FloatPages {
  using F = typename S::F;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kPage = kPageTokens;

 public:
  static int64_t element_bytes(const AttentionJob& job) { return job.dtype == DType::f32 ? 4 : 2; }

  // The queries of a job, before its pages.
  void take_queries(const AttentionJob&) {}

  // Keys and values [begin, end) of a page.
  void take_page(const AttentionJob& job, int64_t page, int begin, int end) {
    k_ = decode(job, job.k_cache, page, begin, end, keys_);
    v_ = decode(job, job.v_cache, page, begin, end, values_);
  }

  // Scores of keys [begin, end) for one row and head, to to[begin..end).
  void score(const AttentionJob& job, int64_t row, int64_t head, int begin, int end, float* to) const {
    const float* q = job.q + row * job.q_stride + head * job.D;
    int j = begin;
    for (; j + kLanes <= end; j += kLanes) score_keys(job, q, k_ + j * job.D, to + j);
    for (; j < end; ++j) to[j] = score_key(job, q, k_ + j * job.D);
  }

  // out = out * shrink + p_j v_j for kCount heads D apart; p is 0 outside [begin, end).
  template <int kCount>
  void weigh(const AttentionJob& job, const float (*p)[kPage], int begin, int end, const float* shrink,
             float* out) {
    constexpr int kVectors = kLanes == 16 ? 4 : 2;  // accumulators: 16 of 32 registers, 8 of 16
    int64_t d = 0;
    for (; d + kVectors * kLanes <= job.D; d += kVectors * kLanes)
      weigh_part<kVectors, kCount>(job, p, v_ + d, begin, end, shrink, out + d);
    for (; d < job.D; d += kLanes) weigh_part<1, kCount>(job, p, v_ + d, begin, end, shrink, out + d);
  }

 private:
  // Rows of D; an f32 cache is used where it is.
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

  // Lanes are dimensions: as many keys as lanes grow side by side, and one tree adds the lanes of them all.
  [[gnu::always_inline]] static void score_keys(const AttentionJob& job, const float* q, const float* k,
                                                float* to) {
    F dots[kLanes];
    for (int i = 0; i < kLanes; ++i) dots[i] = S::zero();
    for (int64_t d = 0; d < job.D; d += kLanes) {
      const F part = S::load(q + d);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) dots[i] = S::fma(part, S::load(k + i * job.D + d), dots[i]);
    }
    S::store(to, S::mul(S::sums(dots), S::set(job.scale)));
  }
  static float score_key(const AttentionJob& job, const float* q, const float* k) {
    F dot = S::zero();
    for (int64_t d = 0; d < job.D; d += kLanes) dot = S::fma(S::load(q + d), S::load(k + d), dot);
    return S::sum(dot) * job.scale;
  }

  template <int kVectors, int kCount>
  [[gnu::always_inline]] static void weigh_part(const AttentionJob& job, const float (*p)[kPage],
                                                const float* v, int begin, int end, const float* shrink,
                                                float* out) {
    F sum[kCount][kVectors];
    for (int h = 0; h < kCount; ++h) {
      for (int i = 0; i < kVectors; ++i)
        sum[h][i] = S::mul(S::load(out + h * job.D + i * kLanes), S::set(shrink[h]));
    }
    for (int j = begin; j < end; ++j) {
      F value[kVectors];
      for (int i = 0; i < kVectors; ++i) value[i] = S::load(v + j * job.D + i * kLanes);
      for (int h = 0; h < kCount; ++h) {
        const F weight = S::set(p[h][j]);
        for (int i = 0; i < kVectors; ++i) sum[h][i] = S::fma(weight, value[i], sum[h][i]);
      }
    }
    for (int h = 0; h < kCount; ++h) {
      for (int i = 0; i < kVectors; ++i) S::store(out + h * job.D + i * kLanes, sum[h][i]);
    }
  }

  alignas(64) float keys_[kPage * kMaxHeadDim];
  alignas(64) float values_[kPage * kMaxHeadDim];
  const float* k_ = nullptr;
  const float* v_ = nullptr;
};

}  // namespace llamita
