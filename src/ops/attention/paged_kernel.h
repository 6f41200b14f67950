// Online-softmax attention over a paged cache, as a template over the vector struct S.
//
// A page of keys and values of one KV head is decoded to f32 once (64 x D floats each, in L1 and L2) and used
// for all query heads of the group and all rows of the item. What one row and head computes depends on the
// position, the window and the page borders alone:
//   scores    q . k in S::kLanes lanes over ascending d, lanes added in S::sum's tree, times scale
//   page      m' = max(m, scores of the page); p = e^(s - m'); l = l e^(m - m') + sum of p, lanes first
//   output    o = o e^(m - m') + p_j v_j over ascending keys
//   partition of kPartitionKeys at absolute positions: starts from nothing; (m, l, o) of the partitions are
//             merged in ascending order: o = o e^(m - m') + o_p e^(m_p - m'); o / l at the end
// so prefill and decode, every chunking, batch and number of threads give the same bits. Keys a row does not
// see are never read.
//
// Bound: prefill by the FMA ports, decode by decoding the page (two loads, two converts a vector against
// 2 x group FMAs).
#pragma once

#include "hw/cpu/simd_math.h"
#include "ops/attention/kernels.h"

namespace llamita {

template <class S>
struct PagedAttention {
  using F = typename S::F;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kPage = kPageTokens;
  static constexpr int kHeads = 4;  // that share the loads of values

  alignas(64) float keys[kPage * kMaxHeadDim];
  alignas(64) float values[kPage * kMaxHeadDim];
  alignas(64) float scores[kHeads][kPage];
  // Of the partition at work, for each query: m, l and (queries, D) o; and m and l of what is merged.
  float largest[kMaxQueries], sums[kMaxQueries];
  alignas(64) float outputs[kMaxQueries * kMaxHeadDim];
  float merged_largest[kMaxQueries], merged_sums[kMaxQueries];

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

  // out = out * shrink + p_j v_j for kVectors vectors of D from d, for heads D apart.
  template <int kVectors, int kCount>
  [[gnu::always_inline]] void weigh_values(const AttentionJob& job, const float* v, int begin, int end,
                                           const float* shrink, float* out) {
    F sum[kCount][kVectors];
    for (int h = 0; h < kCount; ++h) {
      for (int i = 0; i < kVectors; ++i) {
        sum[h][i] = S::mul(S::load(out + h * job.D + i * kLanes), S::set(shrink[h]));
      }
    }
    for (int j = begin; j < end; ++j) {
      F value[kVectors];
      for (int i = 0; i < kVectors; ++i) value[i] = S::load(v + j * job.D + i * kLanes);
      for (int h = 0; h < kCount; ++h) {
        const F p = S::set(scores[h][j]);
        for (int i = 0; i < kVectors; ++i) sum[h][i] = S::fma(p, value[i], sum[h][i]);
      }
    }
    for (int h = 0; h < kCount; ++h) {
      for (int i = 0; i < kVectors; ++i) S::store(out + h * job.D + i * kLanes, sum[h][i]);
    }
  }

  // scores[head] of keys [begin, end) of a page become probabilities; returns what `out` must be multiplied
  // by.
  float score_page(const AttentionJob& job, const float* q, int query, int head, const float* k, int begin,
                   int end) {
    float* to = scores[head];
    for (int j = 0; j < kPage; ++j) to[j] = -__builtin_inff();
    int j = begin;
    for (; j + kLanes <= end; j += kLanes) score_keys(job, q, k + j * job.D, to + j);
    for (; j < end; ++j) to[j] = score_key(job, q, k + j * job.D);

    F most = S::load(to);
    for (int i = kLanes; i < kPage; i += kLanes) most = S::max(most, S::load(to + i));
    const float page_largest = S::largest(most);
    const float new_largest = page_largest > largest[query] ? page_largest : largest[query];
    F sum = S::zero();
    for (int i = 0; i < kPage; i += kLanes) {
      const F p = cpu::exp<S>(S::add(S::load(to + i), S::set(-new_largest)));
      S::store(to + i, p);
      sum = S::add(sum, p);
    }
    // The first page has nothing to shrink: e^-inf is 0.
    alignas(64) float shrink[kLanes];
    S::store(shrink, cpu::exp<S>(S::set(largest[query] - new_largest)));
    sums[query] = sums[query] * shrink[0] + S::sum(sum);
    largest[query] = new_largest;
    return shrink[0];
  }

  // kCount queries of one row, heads D apart, against keys [begin, end) of a page.
  template <int kCount>
  void attend_page(const AttentionJob& job, const float* q, float* out, int query, const float* k,
                   const float* v, int begin, int end) {
    constexpr int kVectors = kLanes == 16 ? 4 : 2;  // accumulators: 16 of 32 registers, 8 of 16
    float shrink[kCount];
    for (int h = 0; h < kCount; ++h) {
      shrink[h] = score_page(job, q + h * job.D, query + h, h, k, begin, end);
    }
    int64_t d = 0;
    for (; d + kVectors * kLanes <= job.D; d += kVectors * kLanes) {
      weigh_values<kVectors, kCount>(job, v + d, begin, end, shrink, out + d);
    }
    for (; d < job.D; d += kLanes) weigh_values<1, kCount>(job, v + d, begin, end, shrink, out + d);
  }

  // Up to kHeads heads of a row, from `head` on.
  void attend_heads(const AttentionJob& job, int64_t row, int64_t head, const float* k, const float* v,
                    int begin, int end) {
    const float* q = job.q + row * job.q_stride + head * job.D;
    const int query = static_cast<int>(row * job.group + head);
    float* out = outputs + query * job.D;
    switch (job.group - head) {
      case 1: return attend_page<1>(job, q, out, query, k, v, begin, end);
      case 2: return attend_page<2>(job, q, out, query, k, v, begin, end);
      case 3: return attend_page<3>(job, q, out, query, k, v, begin, end);
      default: return attend_page<4>(job, q, out, query, k, v, begin, end);
    }
  }

  void run_partition(const AttentionJob& job, int64_t partition) {
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      largest[i] = -__builtin_inff();
      sums[i] = 0;
      for (int64_t d = 0; d < job.D; d += kLanes) S::store(outputs + i * job.D + d, S::zero());
    }
    const int64_t last_position = position_of(job, job.rows - 1);
    const int64_t part_begin = partition * kPartitionKeys, part_end = part_begin + kPartitionKeys;
    const int64_t seen_from = first_key_of(job, position_of(job, 0));
    const int64_t first_key = seen_from > part_begin ? seen_from : part_begin;
    const int64_t end_key = last_position + 1 < part_end ? last_position + 1 : part_end;
    for (int64_t page = first_key / kPage; page * kPage < end_key; ++page) {
      const int64_t base = page * kPage;
      const int begin = within_page(first_key - base), end = within_page(end_key - base);
      const float* k = decode(job, job.k_cache, job.pages[page], begin, end, keys);
      const float* v = decode(job, job.v_cache, job.pages[page], begin, end, values);
      for (int64_t row = 0; row < job.rows; ++row) {
        const int64_t position = position_of(job, row);
        const int from = within_page(first_key_of(job, position) - base),
                  to = within_page(position + 1 - base);
        if (from >= to) continue;
        for (int64_t head = 0; head < job.group; head += kHeads) {
          attend_heads(job, row, head, k, v, from, to);
        }
      }
    }
  }

  static float* out_of(const AttentionJob& job, int64_t query) {
    return job.out + query / job.group * job.out_stride + query % job.group * job.D;
  }

  void begin_merging(const AttentionJob& job) {
    for (int64_t i = 0; i < job.rows * job.group; ++i) merged_sums[i] = -1;  // nothing yet
  }

  // A partition's results into job.out, for the rows that see any of its keys.
  void merge(const AttentionJob& job, int64_t partition, const float* part_outputs, const float* part_largest,
             const float* part_sums) {
    const int64_t begin = partition * kPartitionKeys, end = begin + kPartitionKeys;
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      const int64_t position = position_of(job, i / job.group);
      if (position < begin || first_key_of(job, position) >= end) continue;
      const float* from = part_outputs + i * job.D;
      float* out = out_of(job, i);
      if (merged_sums[i] == -1) {
        for (int64_t d = 0; d < job.D; d += kLanes) S::store(out + d, S::load(from + d));
        merged_largest[i] = part_largest[i], merged_sums[i] = part_sums[i];
        continue;
      }
      const float most = part_largest[i] > merged_largest[i] ? part_largest[i] : merged_largest[i];
      const F keep = cpu::exp<S>(S::set(merged_largest[i] - most));
      const F take = cpu::exp<S>(S::set(part_largest[i] - most));
      for (int64_t d = 0; d < job.D; d += kLanes) {
        S::store(out + d, S::fma(S::load(from + d), take, S::mul(S::load(out + d), keep)));
      }
      alignas(64) float factors[2][kLanes];
      S::store(factors[0], keep);
      S::store(factors[1], take);
      merged_sums[i] = merged_sums[i] * factors[0][0] + part_sums[i] * factors[1][0];
      merged_largest[i] = most;
    }
  }

  void finish(const AttentionJob& job) const {
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      float* out = out_of(job, i);
      for (int64_t d = 0; d < job.D; d += kLanes) {
        S::store(out + d, S::div(S::load(out + d), S::set(merged_sums[i])));
      }
    }
  }

  static int64_t first_partition(const AttentionJob& job) {
    return first_key_of(job, position_of(job, 0)) / kPartitionKeys;
  }
  static int64_t last_partition(const AttentionJob& job) {
    return position_of(job, job.rows - 1) / kPartitionKeys;
  }

  // The last key that a row sees.
  static int64_t position_of(const AttentionJob& job, int64_t row) {
    return job.full_keys > 0 ? job.full_keys - 1 : job.first_position + row;
  }
  static int64_t first_key_of(const AttentionJob& job, int64_t position) {
    return job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  }
  static int within_page(int64_t key) { return static_cast<int>(key < 0 ? 0 : key > kPage ? kPage : key); }
};

template <class S>
static constexpr AttentionKernels attention_kernels() {
  using Kernel = PagedAttention<S>;
  return {.all =
              [](const AttentionJob& job) {
                Kernel kernel;
                kernel.begin_merging(job);
                for (int64_t p = Kernel::first_partition(job); p <= Kernel::last_partition(job); ++p) {
                  kernel.run_partition(job, p);
                  kernel.merge(job, p, kernel.outputs, kernel.largest, kernel.sums);
                }
                kernel.finish(job);
              },
          .partition =
              [](const AttentionJob& job, int64_t partition, float* partial) {
                if (partition < Kernel::first_partition(job) || partition > Kernel::last_partition(job))
                  return;
                Kernel kernel;
                kernel.run_partition(job, partition);
                const int64_t queries = job.rows * job.group;
                for (int64_t i = 0; i < queries * job.D; ++i) partial[i] = kernel.outputs[i];
                for (int64_t i = 0; i < queries; ++i) {
                  partial[queries * job.D + i] = kernel.largest[i];
                  partial[queries * (job.D + 1) + i] = kernel.sums[i];
                }
              },
          .merge =
              [](const AttentionJob& job, const float* partials, int64_t stride) {
                Kernel kernel;
                kernel.begin_merging(job);
                const int64_t queries = job.rows * job.group;
                for (int64_t p = Kernel::first_partition(job); p <= Kernel::last_partition(job); ++p) {
                  const float* part = partials + p * stride;
                  kernel.merge(job, p, part, part + queries * job.D, part + queries * (job.D + 1));
                }
                kernel.finish(job);
              }};
}

}  // namespace llamita
