// A page of an int8 cache (quant/kv_format.h) for the kernels of paged_kernel.h. Both products are exact
// sums of integers, 16 bits by 8: twice the products an instruction of f32, and no order to keep.
//   queries  q = s_q q16, q16 in -32767..32767, once a partition
//   scores   (q16 . k8) s_k s_q scale, the sum in int32: 256 * 32767 * 127 is below 2^30
//   output   p_j s_v,j = s_w w16_j of a row, head and page; o = o shrink + s_w (w16 . v8)
// Sixteen bits keep the error below 1e-8 of the result's square (tests/ops/attention_test.cc); eight made it
// 4e-5 to 2e-4, above the bar of 1.2e-5.
// A page is widened to 16 bits once for all heads and rows. The slots around those that a row sees are read
// up to the next multiple of kLanes, and count as nothing whatever they hold.
//
// Bound: prefill by the multiply ports, decode by widening the page: 16 elements a convert and a store
// (f16: 8), half the bytes from memory.
#pragma once

#include <immintrin.h>

#include "ops/attention/kernels.h"

namespace llamita {

template <class S>
class Int8Pages {
  using F = typename S::F;
  using I = typename S::I;
  using Pairs = typename S::Pairs;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kPage = kPageTokens;
  static constexpr float kMost = 32767;

 public:
  static int64_t element_bytes(const AttentionJob&) { return 1; }

  void take_queries(const AttentionJob& job) {
    for (int64_t i = 0; i < job.rows * job.group; ++i) {
      const float* q = job.q + i / job.group * job.q_stride + i % job.group * job.D;
      query_scales_[i] = to_int16(q, job.D, queries_ + i * padded(job));
    }
  }

  void take_page(const AttentionJob& job, int64_t page, int begin, int end) {
    const auto* k = static_cast<const int8_t*>(job.k_cache) + page * job.page_stride;
    const auto* v = static_cast<const int8_t*>(job.v_cache) + page * job.page_stride;
    take_scales(k + job.scales_offset, key_scales_);
    take_scales(v + job.scales_offset, value_scales_);
    const int step = in_tiles(job) ? kStripKeys : kLanes;
    begin = begin / step * step;
    end = (end + step - 1) / step * step;
    for (int j = begin; j < end; ++j) {
      int16_t* to = keys_ + j * padded(job);
      for (int64_t d = 0; d < job.D; d += 16) widen(k + j * job.D + d, to + d);
      for (int64_t d = job.D; d < padded(job); ++d) to[d] = 0;
    }
    for (int j = begin; j < end; j += 2) {
      for (int64_t d = 0; d < job.D; d += 16)
        interleave(v + j * job.D + d, v + (j + 1) * job.D + d, values_ + j * job.D + 2 * d);
    }
    if (in_tiles(job)) transpose_keys(padded(job), begin, end);
  }

  // Whether the queries are worth a transposed page: lanes are keys then, and no lanes are added.
  static bool in_tiles(const AttentionJob& job) { return job.rows * job.group >= kLanes; }

  // Scores of all keys taken, for queries [first, first + count); rows of `to` up to the next multiple of
  // kTileQueries are written.
  void score_tiles(const AttentionJob& job, int64_t first, int count, float (*to)[kPage]) const {
    const int64_t width = padded(job);
    for (int j = first_tiled_; j < end_tiled_; j += kStripKeys) {
      for (int i = 0; i < count; i += kTileQueries) {
        const int16_t* q[kTileQueries];
        F scales[kTileQueries];
        for (int u = 0; u < kTileQueries; ++u) {
          const int64_t query = first + (i + u < count ? i + u : count - 1);
          q[u] = queries_ + query * width;
          scales[u] = S::set(query_scales_[query] * job.scale);
        }
        score_tile(width, q, scales, j, to[i] + j);
      }
    }
  }

  void score(const AttentionJob& job, int64_t query, int begin, int end, float* to) const {
    const int64_t width = padded(job);
    const int16_t* q = queries_ + query * width;
    const F scale = S::set(query_scales_[query] * job.scale);
    for (int j = begin / kLanes * kLanes; j < end; j += kLanes) {
      const int16_t* k = keys_ + j * width;
      I dots[kLanes];
      for (int i = 0; i < kLanes; ++i) dots[i] = S::set_int(0);
      for (int64_t d = 0; d < width; d += 2 * kLanes) {
        const Pairs part = S::load_pairs(q + d);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          dots[i] = S::add_products(dots[i], part, S::load_pairs(k + i * width + d));
      }
      S::store(to + j, S::mul(S::mul(S::to_float(S::sums(dots)), S::load(key_scales_ + j)), scale));
    }
  }

  template <int kCount>
  void weigh(const AttentionJob& job, const float (*p)[kPage], int begin, int end, const float* shrink,
             float* out) {
    static_assert(kCount <= kHeads);
    constexpr int kVectors = kLanes == 16 ? 4 : 2;  // accumulators: 16 of 32 registers, 8 of 16
    float steps[kCount];
    for (int h = 0; h < kCount; ++h) steps[h] = take_weights(p[h], weights_[h]);
    begin = begin / 2 * 2;
    int64_t d = 0;
    for (; d + kVectors * kLanes <= job.D; d += kVectors * kLanes)
      weigh_part<kVectors, kCount>(job, d, begin, end, steps, shrink, out + d);
    for (; d < job.D; d += kLanes) weigh_part<1, kCount>(job, d, begin, end, steps, shrink, out + d);
  }

 private:
  // A tile of scores: queries by vectors of keys, 4 x 2 sums with AVX-512, 2 x 2 with AVX2.
  static constexpr int kTileQueries = kLanes == 16 ? 4 : 2, kTileVectors = 2;
  static constexpr int kStripKeys = kTileVectors * kLanes;

  void transpose_keys(int64_t width, int begin, int end) {
    first_tiled_ = begin, end_tiled_ = end;
    for (int j = begin; j < end; j += kLanes) {
      for (int64_t d = 0; d < width; d += 2 * kLanes) {
        Pairs block[kLanes];
        for (int key = 0; key < kLanes; ++key) block[key] = S::load_pairs(keys_ + (j + key) * width + d);
        S::transpose(block);
        for (int i = 0; i < kLanes; ++i) S::store_pairs(tiled_ + (d / 2 + i) * 2 * kPage + 2 * j, block[i]);
      }
    }
  }

  [[gnu::noinline]] void score_tile(int64_t width, const int16_t* const (&q)[kTileQueries],
                                    const F (&scales)[kTileQueries], int key, float* to) const {
    I sums[kTileQueries][kTileVectors];
    for (int u = 0; u < kTileQueries; ++u) {
      for (int v = 0; v < kTileVectors; ++v) sums[u][v] = S::set_int(0);
    }
    const int16_t* keys = tiled_ + 2 * key;
    for (int64_t d = 0; d < width; d += 2, keys += 2 * kPage) {
      Pairs k[kTileVectors];
      for (int v = 0; v < kTileVectors; ++v) k[v] = S::load_pairs(keys + 2 * v * kLanes);
      for (int u = 0; u < kTileQueries; ++u) {
        const Pairs part = S::set_pair(q[u] + d);
        for (int v = 0; v < kTileVectors; ++v) sums[u][v] = S::add_products(sums[u][v], part, k[v]);
      }
    }
    for (int u = 0; u < kTileQueries; ++u) {
      for (int v = 0; v < kTileVectors; ++v) {
        const F scaled = S::mul(S::to_float(sums[u][v]), S::load(key_scales_ + key + v * kLanes));
        S::store(to + u * kPage + v * kLanes, S::mul(scaled, scales[u]));
      }
    }
  }

  // D up to whole vectors of pairs; what is more is zero.
  static int64_t padded(const AttentionJob& job) {
    return (job.D + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes);
  }

  // x = result * to; NaN when any of x is not finite.
  static float to_int16(const float* x, int64_t D, int16_t* to) {
    F most = S::zero(), broken = S::zero();
    for (int64_t d = 0; d < D; d += kLanes) {
      const F value = S::load(x + d);
      most = S::max(most, S::max(value, S::mul(value, S::set(-1))));
      broken = S::fma(value, S::zero(), broken);  // 0, or NaN
    }
    const float largest = S::largest(most), factor = factor_of(largest);
    int64_t d = 0;
    for (; d < D; d += kLanes) S::store_i16(to + d, S::to_int(S::mul(S::load(x + d), S::set(factor))));
    for (; d % (2 * kLanes) != 0; d += kLanes) S::store_i16(to + d, S::set_int(0));
    return largest / kMost + S::sum(broken);
  }

  // The weights of the values, of which those that no row sees have p = 0 and scales of any bits.
  float take_weights(const float* p, int16_t* to) const {
    alignas(64) float weights[kPage];
    F most = S::zero(), broken = S::zero();
    for (int j = 0; j < kPage; j += kLanes) {
      const F probability = S::load(p + j);
      const F weight =
          S::zero_below(probability, S::set(__FLT_MIN__), S::mul(probability, S::load(value_scales_ + j)));
      S::store(weights + j, weight);
      most = S::max(most, weight);
      broken = S::fma(weight, S::zero(), broken);
    }
    const float largest = S::largest(most), factor = factor_of(largest);
    for (int j = 0; j < kPage; j += kLanes)
      S::store_i16(to + j, S::to_int(S::mul(S::load(weights + j), S::set(factor))));
    return largest / kMost + S::sum(broken);
  }

  // Below 1e-30 all is zero: nothing there matters beside the other pages, and the factor stays finite.
  static float factor_of(float largest) { return largest > 1e-30f ? kMost / largest : 0; }

  static void take_scales(const int8_t* from, float* to) {
    for (int j = 0; j < kPage; j += kLanes) S::store(to + j, S::load_f16(from + 2 * j));
  }

  [[gnu::always_inline]] static void widen(const int8_t* from, int16_t* to) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(bytes));
  }
  // 16 elements of two rows: a0 b0 a1 b1 …
  [[gnu::always_inline]] static void interleave(const int8_t* a, const int8_t* b, int16_t* to) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
    auto* pairs = reinterpret_cast<__m256i*>(to);
    _mm256_storeu_si256(pairs, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second)));
    _mm256_storeu_si256(pairs + 1, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(first, second)));
  }

  // kVectors vectors of the output from dimension d on.
  template <int kVectors, int kCount>
  [[gnu::always_inline]] void weigh_part(const AttentionJob& job, int64_t d, int begin, int end,
                                         const float* steps, const float* shrink, float* out) const {
    I sum[kCount][kVectors];
    for (int h = 0; h < kCount; ++h) {
      for (int i = 0; i < kVectors; ++i) sum[h][i] = S::set_int(0);
    }
    for (int j = begin; j < end; j += 2) {
      Pairs value[kVectors];
      for (int i = 0; i < kVectors; ++i) value[i] = S::load_pairs(values_ + j * job.D + 2 * (d + i * kLanes));
      for (int h = 0; h < kCount; ++h) {
        const Pairs weight = S::set_pair(weights_[h] + j);
        for (int i = 0; i < kVectors; ++i) sum[h][i] = S::add_products(sum[h][i], weight, value[i]);
      }
    }
    for (int h = 0; h < kCount; ++h) {
      for (int i = 0; i < kVectors; ++i) {
        float* at = out + h * job.D + i * kLanes;
        const F kept = S::mul(S::load(at), S::set(shrink[h]));
        S::store(at, S::fma(S::to_float(sum[h][i]), S::set(steps[h]), kept));
      }
    }
  }

  static constexpr int kHeads = 4;  // at most that weigh() takes at once

  alignas(64) int16_t queries_[kMaxQueries * kMaxHeadDim];
  alignas(64) int16_t keys_[kPage * kMaxHeadDim];   // (page, padded)
  alignas(64) int16_t tiled_[kPage * kMaxHeadDim];  // (padded / 2, page, 2)
  int first_tiled_ = 0, end_tiled_ = 0;
  alignas(64) int16_t values_[kPage * kMaxHeadDim];  // (page / 2, D, 2)
  alignas(64) float key_scales_[kPage], value_scales_[kPage];
  alignas(64) int16_t weights_[kHeads][kPage];
  float query_scales_[kMaxQueries];
};

}  // namespace llamita
