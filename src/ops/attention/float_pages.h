// A page of an f32, f16 or bf16 cache for the kernels of paged_kernel.h: decoded to f32 once (64 x D floats
// of keys and of values, in L1 and L2) and used for all query heads of the group and all rows of the item.
//   scores: q . k in S::kLanes sums over ascending d, d modulo kLanes each, added in S::sum's tree, times
//           scale
//   output: o = o shrink + p_j v_j over ascending keys
// A few queries have these sums in the lanes of a vector, and one tree of shuffles adds those of kLanes keys.
// For many (in_tiles) the page is transposed, which costs as much as the trees of eight queries: lanes are
// keys, and the tree is kLanes - 1 additions of whole vectors. The bits are the same.
// Keys a row does not see count as nothing, whatever they hold.
//
// Bound: prefill by the FMA ports (for D = 64 256 multiply-adds, 60 additions, 100 instructions of softmax,
// 256 multiply-adds a query and page), decode by decoding the page (two loads, two converts a vector against
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

  // Whether the queries are worth a transposed page.
  static bool in_tiles(const AttentionJob& job) { return job.rows * job.group >= kLanes; }

  // Keys and values [begin, end) of a page.
  void take_page(const AttentionJob& job, int64_t page, int begin, int end) {
    if (in_tiles(job)) {
      first_strip_ = begin / kStripKeys, end_strip_ = (end + kStripKeys - 1) / kStripKeys;
      transpose_keys(job, page);
    } else {
      k_ = decode(job, job.k_cache, page, begin, end, keys_);
    }
    v_ = decode(job, job.v_cache, page, begin, end, values_);
  }

  // Scores of keys [begin, end) for one query, to to[begin..end).
  void score(const AttentionJob& job, int64_t query, int begin, int end, float* to) const {
    const float* q = query_of(job, query);
    int j = begin;
    for (; j + kLanes <= end; j += kLanes) score_keys(job, q, k_ + j * job.D, to + j);
    for (; j < end; ++j) to[j] = score_key(job, q, k_ + j * job.D);
  }

  // Scores of all keys taken, for queries [first, first + count); rows of `to` up to the next multiple of
  // kTileQueries are written.
  void score_tiles(const AttentionJob& job, int64_t first, int count, float (*to)[kPage]) const {
    for (int strip = first_strip_; strip < end_strip_; ++strip) {
      for (int i = 0; i < count; i += kTileQueries) {
        const float* q[kTileQueries];
        for (int u = 0; u < kTileQueries; ++u) {
          q[u] = query_of(job, first + (i + u < count ? i + u : count - 1));
        }
        score_tile(job, q, keys_ + strip * kStripKeys, to[i] + strip * kStripKeys);
      }
    }
  }

  // out = out * shrink + p_j v_j for kCount queries D apart; p is 0 outside [begin, end).
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
  // A tile of scores: queries by vectors of keys, twice, because two of the kLanes sums grow side by side.
  // With AVX-512 4 x 2 x 2 sums of 32 registers, with AVX2 2 x 2 x 2 of 16.
  static constexpr int kTileQueries = kLanes == 16 ? 4 : 2, kTileVectors = 2;
  static constexpr int kStripKeys = kTileVectors * kLanes;  // 16 KiB of D = 128, which stay in L1
  static_assert(kPage % kStripKeys == 0);

  static const float* query_of(const AttentionJob& job, int64_t query) {
    return job.q + query / job.group * job.q_stride + query % job.group * job.D;
  }

  static F load_element(const AttentionJob& job, const void* cache, int64_t at) {
    if (job.dtype == DType::f32) return S::load(static_cast<const float*>(cache) + at);
    const auto* from = static_cast<const uint16_t*>(cache) + at;
    return job.dtype == DType::f16 ? S::load_f16(from) : S::load_bf16(from);
  }

  // The strips' keys to (kLanes sums, D / kLanes, kPage): what is added up one after the other lies so.
  void transpose_keys(const AttentionJob& job, int64_t page) {
    const int64_t steps = job.D / kLanes;
    for (int j = first_strip_ * kStripKeys; j < end_strip_ * kStripKeys; j += kLanes) {
      for (int64_t i = 0; i < steps; ++i) {
        F block[kLanes];
        for (int key = 0; key < kLanes; ++key) {
          block[key] =
              load_element(job, job.k_cache, page * job.page_stride + (j + key) * job.D + i * kLanes);
        }
        S::transpose(block);
        for (int lane = 0; lane < kLanes; ++lane)
          S::store(keys_ + (lane * steps + i) * kPage + j, block[lane]);
      }
    }
  }

  // The sums in S::sum's tree: lane l with lane l + kLanes / 2, and so on. Visited so that a sum waits for as
  // few others as the tree is deep: l in bit-reversed order.
  [[gnu::noinline]] static void score_tile(const AttentionJob& job, const float* const (&q)[kTileQueries],
                                           const float* keys, float* to) {
    constexpr int kLevels = kLanes == 16 ? 3 : 2;
    constexpr int kOrder[2][8] = {{0, 2, 1, 3}, {0, 4, 2, 6, 1, 5, 3, 7}};
    const int64_t steps = job.D / kLanes;
    F waiting[kLevels][kTileQueries][kTileVectors];
#pragma GCC unroll 8
    for (int leaf = 0; leaf < kLanes / 2; ++leaf) {
      const int lane = kOrder[kLanes / 16][leaf];
      F low[kTileQueries][kTileVectors], high[kTileQueries][kTileVectors];
#pragma GCC unroll 4
      for (int u = 0; u < kTileQueries; ++u) {
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) low[u][v] = high[u][v] = S::zero();
      }
      const float* low_keys = keys + lane * steps * kPage;
      const float* high_keys = keys + (lane + kLanes / 2) * steps * kPage;
      for (int64_t i = 0; i < steps; ++i) {
        F k[2][kTileVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) {
          k[0][v] = S::keep(S::load(low_keys + i * kPage + v * kLanes));
          k[1][v] = S::keep(S::load(high_keys + i * kPage + v * kLanes));
        }
#pragma GCC unroll 4
        for (int u = 0; u < kTileQueries; ++u) {
          const F a = S::set(q[u][i * kLanes + lane]), b = S::set(q[u][i * kLanes + lane + kLanes / 2]);
#pragma GCC unroll 2
          for (int v = 0; v < kTileVectors; ++v) {
            low[u][v] = S::fma(a, k[0][v], low[u][v]);
            high[u][v] = S::fma(b, k[1][v], high[u][v]);
          }
        }
      }
#pragma GCC unroll 4
      for (int u = 0; u < kTileQueries; ++u) {
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) {
          F sum = S::add(low[u][v], high[u][v]);
          int level = 0;
#pragma GCC unroll 3
          for (; (leaf >> level & 1) != 0; ++level) sum = S::add(waiting[level][u][v], sum);
          if (level < kLevels) {
            waiting[level][u][v] = sum;
          } else {
            S::store(to + u * kPage + v * kLanes, S::mul(sum, S::set(job.scale)));
          }
        }
      }
    }
  }

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

  alignas(64) float keys_[kPage * kMaxHeadDim];  // rows of D, or transposed
  alignas(64) float values_[kPage * kMaxHeadDim];
  const float* k_ = nullptr;
  const float* v_ = nullptr;
  int first_strip_ = 0, end_strip_ = 0;
};

}  // namespace llamita
