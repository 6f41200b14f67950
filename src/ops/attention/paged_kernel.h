// Online-softmax attention over a paged cache, as a template over the vector struct S and over Pages, which
// knows what the cache's bytes are: FloatPages (float_pages.h) or Int8Pages (int8_pages.h).
//
// What one row and head computes depends on the position, the window and the page borders alone:
//   page      m' = max(m, scores of the page); p = e^(s - m'); l = l e^(m - m') + sum of p, lanes first
//             (kBatch queries at once, which share the trees that add and compare lanes)
//   output    o = o e^(m - m') + p_j v_j of the page
//   partition of kPartitionKeys at absolute positions: starts from nothing; (m, l, o) of the partitions are
//             merged in ascending order: o = o e^(m - m') + o_p e^(m_p - m'); o / l at the end
// so prefill and decode, every chunking, batch and number of threads give the same bits.
#pragma once

#include "hw/cpu/simd_math.h"
#include "ops/attention/kernels.h"

namespace llamita {

template <class S, class Pages>
struct PagedAttention {
  using F = typename S::F;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kPage = kPageTokens;
  // Queries of a softmax: a lane each where lanes are added or compared.
  static constexpr int kBatch = kLanes;
  static constexpr int kShared = 4;  // queries that share the loads of values

  Pages pages;
  alignas(64) float scores[kBatch][kPage];
  // Of the partition at work, for each query: m, l and (queries, D) o; and m and l of what is merged.
  float largest[kMaxQueries], sums[kMaxQueries];
  alignas(64) float outputs[kMaxQueries * kMaxHeadDim];
  int64_t next_page = -1;
  float merged_largest[kMaxQueries], merged_sums[kMaxQueries];

  // Part `part` of `parts` of the page after this one, which may lie anywhere: the processor cannot guess it.
  // In parts between the queries, because hundreds of lines at once would hold up what is at work.
  static void fetch_ahead(const AttentionJob& job, int64_t page, int64_t part, int64_t parts) {
    const int64_t elem_bytes = Pages::element_bytes(job), bytes = kPage * job.D * elem_bytes;
    const int64_t at = page * job.page_stride * elem_bytes;
    for (int64_t i = bytes * part / parts; i < bytes * (part + 1) / parts; i += 64) {
      __builtin_prefetch(static_cast<const char*>(job.k_cache) + at + i);
      __builtin_prefetch(static_cast<const char*>(job.v_cache) + at + i);
    }
  }

  // Keys of a page that a query sees.
  struct Seen {
    int begin, end;
    bool operator==(const Seen&) const = default;
  };
  static Seen seen_of(const AttentionJob& job, int64_t row, int64_t page_begin) {
    const int64_t position = job.first_position + row;
    return {within_page(first_key_of(job, position) - page_begin),
            within_page(end_key_of(job, position) - page_begin)};
  }

  // Scores of `count` queries from `first` on, -inf for keys that they do not see. The page that follows is
  // fetched meanwhile, in as many parts as there are queries from `begin` to `all`.
  void score(const AttentionJob& job, int64_t begin, int64_t first, int count, const Seen* seen,
             int64_t all) {
    if (Pages::in_tiles(job)) pages.score_tiles(job, first, count, scores);
    for (int i = 0; i < count; ++i) {
      float* to = scores[i];
      if (!Pages::in_tiles(job)) pages.score(job, first + i, seen[i].begin, seen[i].end, to);
      for (int j = 0; j < seen[i].begin; ++j) to[j] = -__builtin_inff();
      for (int j = seen[i].end; j < kPage; ++j) to[j] = -__builtin_inff();
      if (next_page >= 0) fetch_ahead(job, next_page, first + i - begin, all - begin);
    }
  }

  // Scores become probabilities; shrink[i] is what the outputs of query first + i must be multiplied by.
  void softmax(int64_t first, int count, float* shrink) {
    F most[kBatch], sum[kBatch];
    alignas(64) float state[2][kBatch] = {}, negative[kBatch];
    for (int i = 0; i < count; ++i) {
      most[i] = S::load(scores[i]);
      for (int j = kLanes; j < kPage; j += kLanes) most[i] = S::max(most[i], S::load(scores[i] + j));
      state[0][i] = largest[first + i], state[1][i] = sums[first + i];
    }
    for (int i = count; i < kBatch; ++i) most[i] = sum[i] = S::zero();
    const F before = S::load(state[0]), now = S::max(S::largests(most), before);
    S::store(negative, S::mul(now, S::set(-1)));
    for (int i = 0; i < count; ++i) {
      sum[i] = S::zero();
      for (int j = 0; j < kPage; j += kLanes) {
        const F p = cpu::exp<S>(S::add(S::load(scores[i] + j), S::set(negative[i])));
        S::store(scores[i] + j, p);
        sum[i] = S::add(sum[i], p);
      }
    }
    // The first page has nothing to shrink: e^-inf is 0.
    const F factor = cpu::exp<S>(S::add(before, S::load(negative)));
    S::store(shrink, factor);
    S::store(state[0], now);
    S::store(state[1], S::fma(S::load(state[1]), factor, S::sums(sum)));
    for (int i = 0; i < count; ++i) largest[first + i] = state[0][i], sums[first + i] = state[1][i];
  }

  // Queries [first, first + count) against a page, of those from `begin` to `all`, which all see some of it.
  void attend(const AttentionJob& job, int64_t begin, int64_t first, int count, int64_t page_begin,
              int64_t all) {
    Seen seen[kBatch];
    alignas(64) float shrink[kBatch];
    for (int i = 0; i < count; ++i) seen[i] = seen_of(job, (first + i) / job.group, page_begin);
    score(job, begin, first, count, seen, all);
    softmax(first, count, shrink);
    for (int i = 0, shared = 1; i < count; i += shared, shared = 1) {
      while (shared < kShared && i + shared < count && seen[i + shared] == seen[i]) ++shared;
      const auto weigh = [&]<int kCount>() {
        pages.template weigh<kCount>(job, scores + i, seen[i].begin, seen[i].end, shrink + i,
                                     outputs + (first + i) * job.D);
      };
      switch (shared) {
        case 1: weigh.template operator()<1>(); break;
        case 2: weigh.template operator()<2>(); break;
        case 3: weigh.template operator()<3>(); break;
        default: weigh.template operator()<4>();
      }
    }
  }

  void run_partition(const AttentionJob& job, int64_t partition) {
    pages.take_queries(job);
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      largest[i] = -__builtin_inff();
      sums[i] = 0;
      for (int64_t d = 0; d < job.D; d += kLanes) S::store(outputs + i * job.D + d, S::zero());
    }
    const int64_t seen_to = end_key_of(job, job.first_position + job.rows - 1);
    const int64_t part_begin = partition * kPartitionKeys, part_end = part_begin + kPartitionKeys;
    const int64_t seen_from = first_key_of(job, job.first_position);
    const int64_t first_key = seen_from > part_begin ? seen_from : part_begin;
    const int64_t end_key = seen_to < part_end ? seen_to : part_end;
    for (int64_t page = first_key / kPage; page * kPage < end_key; ++page) {
      const int64_t base = page * kPage;
      const int begin = within_page(first_key - base), end = within_page(end_key - base);
      pages.take_page(job, job.pages[page], begin, end);
      next_page = (page + 1) * kPage < end_key ? job.pages[page + 1] : -1;
      // The rows that see any of it follow each other: none before their first key, none past their window.
      const auto sees = [&](int64_t row) {
        const Seen seen = seen_of(job, row, base);
        return seen.begin < seen.end;
      };
      int64_t row = 0, end_row = job.rows;
      while (row < end_row && !sees(row)) ++row;
      while (end_row > row && !sees(end_row - 1)) --end_row;
      const int64_t all = end_row * job.group, from = row * job.group;
      for (int64_t first = from; first < all; first += kBatch) {
        attend(job, from, first, static_cast<int>(all - first < kBatch ? all - first : kBatch), base, all);
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
      const int64_t position = job.first_position + i / job.group;
      if (end_key_of(job, position) <= begin || first_key_of(job, position) >= end) continue;
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
    return first_key_of(job, job.first_position) / kPartitionKeys;
  }
  static int64_t last_partition(const AttentionJob& job) {
    return (end_key_of(job, job.first_position + job.rows - 1) - 1) / kPartitionKeys;
  }

  static int64_t first_key_of(const AttentionJob& job, int64_t position) {
    return job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  }
  static int64_t end_key_of(const AttentionJob& job, int64_t position) {
    return job.keys > 0 ? job.keys : position + 1;
  }
  static int within_page(int64_t key) { return static_cast<int>(key < 0 ? 0 : key > kPage ? kPage : key); }
};

template <class S, class Pages>
static constexpr AttentionKernels attention_kernels() {
  using Kernel = PagedAttention<S, Pages>;
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
