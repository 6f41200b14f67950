// The integer kernel for one token: eight rows side by side, whose weights meet the activations as they come
// out of the decoder, and whose lanes are added by a tree that ends with a row's sum in each lane. That saves
// the turning of the weights and a trip through L1, which int8_kernel.h needs for more tokens. The sums are
// exact, so the bits are the same. 256-bit instructions do for both instruction sets: decoding binds.
// Not for the K-quants, whose super-blocks need more registers than there are: measured, the panel is faster.
#pragma once

#include "ops/linear/int8.h"
#include "ops/linear/int8_decode.h"

namespace llamita::int8 {

// Lane j: the sum of the lanes of v[j].
[[gnu::always_inline]] static inline __m256i sums_of(const __m256i (&v)[8]) {
  const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
  const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20),
                          _mm256_permute2x128_si256(low, high, 0x31));
}

// D only tells the instruction sets' copies of this template apart.
template <class D, class Format>
struct Token {
  using Block = typename Format::Block;
  const uint8_t* rows[8];

  // The fp16 that `member` finds in block b of the eight rows.
  template <class Member>
  [[gnu::always_inline]] __m256 halves(int64_t b, Member member) const {
    short bits[8];
    for (int j = 0; j < 8; ++j) {
      __builtin_memcpy(&bits[j], &member(reinterpret_cast<const Block*>(rows[j])[b]), sizeof(short));
    }
    return _mm256_cvtph_ps(
        _mm_setr_epi16(bits[0], bits[1], bits[2], bits[3], bits[4], bits[5], bits[6], bits[7]));
  }

  [[gnu::always_inline]] static __m256i pairs(__m256i w, __m256i x) {
    return Format::kSigned ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                           : _mm256_maddubs_epi16(w, x);
  }

  // acc with a block of 32 added, the lines of int8.h.
  [[gnu::always_inline]] __m256 add_plain(const Int8Job& job, int64_t t, int64_t b, __m256 acc) const {
    const int64_t K = job.plain.K, at = t * (K / 32) + b;
    const __m256i x = load32(job.x.q + t * K + 32 * b);
    __m256i dots[8];
    for (int j = 0; j < 8; ++j) {
      dots[j] = _mm256_madd_epi16(pairs(Format::group(rows[j], b), x), _mm256_set1_epi16(1));
    }
    __m256i sum = sums_of(dots);
    if (Format::kOffset != 0) {
      sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(Format::kOffset * job.x.sums[at]));
    }
    const __m256 d = halves(b, [](const Block& block) -> const Half& { return block.d; });
    const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(job.x.scales[at]));
    acc = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum), acc);
    if constexpr (Format::kMins) {
      const __m256 m = halves(b, [](const Block& block) -> const Half& { return block.m; });
      acc = _mm256_fmadd_ps(m, _mm256_set1_ps(job.x.scaled_sums[at]), acc);
    }
    return acc;
  }

  // Up to eight rows from n on; those that lack repeat the last.
  [[gnu::always_inline]] void run(const Int8Job& int8_job, int64_t t, int64_t n, int count) {
    const LinearJob& job = int8_job.plain;
    for (int j = 0; j < 8; ++j) rows[j] = job.weight + (n + (j < count ? j : count - 1)) * job.weight_stride;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t b = 0; b < job.K / 32; ++b) acc = add_plain(int8_job, t, b, acc);
    alignas(32) float values[8];
    _mm256_store_ps(values, acc);
    for (int j = 0; j < count; ++j) {
      if (job.bias != nullptr) values[j] += job.bias[n + j];
      if (job.residual != nullptr) values[j] += job.residual[t * job.residual_stride + n + j];
      job.out[t * job.out_stride + n + j] = values[j];
    }
  }
};

template <class D, class Format>
[[gnu::noinline]] static void run_tokens(const Int8Job& job, int64_t begin, int64_t end) {
  Token<D, Format> token;
  for (int64_t t = 0; t < job.plain.T; ++t) {
    for (int64_t n = begin; n < end; n += 8) {
      token.run(job, t, n, static_cast<int>(n + 8 < end ? 8 : end - n));
    }
  }
}

}  // namespace llamita::int8
