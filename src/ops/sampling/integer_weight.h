// Probabilities as integers. A token's weight is 2^40 * 2^(-distance), where distance is how far its logit
// lies below the best one, in powers of two. Integer weights add up to the same sum in any order, so threads,
// vector widths and devices cannot disagree about which token a random number picks; and everything here is a
// handful of IEEE and integer operations without a library call, so a CPU and a GPU compute the same weights.
//
// The largest weight is 2^40 and a vocabulary has less than 2^23 tokens, so sums stay below 2^63. Tokens more
// than 40 powers of two (28 nats) below the best one weigh nothing.
#pragma once

#include <cstdint>

namespace llamita {

inline constexpr int kWeightBits = 40;
inline constexpr uint64_t kFullWeight = uint64_t{1} << kWeightBits;
inline constexpr int64_t kMaxVocab = int64_t{1} << 23;
inline constexpr float kLog2E = 1.44269504f;

// 2^(fraction / 2^24) in units of 2^-31, for fraction < 2^24. The Taylor series of 2^f to degree 9, in fixed
// point with 32 bits behind the point: cut off and rounded down everywhere, so the result is never above the
// true value (by at most 2^-26 of it below), is exact at 0, rises strictly and stays below 2^32.
constexpr uint32_t exp2_fraction(uint32_t fraction) {
  // ln(2)^i / i! * 2^32, rounded down, for i = 9 .. 1. All together are below 2^32, so no sum overflows.
  constexpr uint32_t kTerms[9] = {437u,      5676u,      65509u,      661576u,    5726719u,
                                  41309549u, 238388331u, 1031764991u, 2977044471u};
  const uint32_t f = fraction << 8;
  const auto times_f = [f](uint32_t x) { return static_cast<uint32_t>(uint64_t{x} * f >> 32); };
  uint32_t sum = kTerms[0];
  for (int i = 1; i < 9; ++i) sum = kTerms[i] + times_f(sum);
  return (uint32_t{1} << 31) + times_f(sum) / 2;
}

// The exponent of a token's weight in units of 2^-24, at most 40 * 2^24; 0 when the token weighs nothing. Its
// logit lies `below` (>= 0, may be infinite) the best one, and `scale` is log2(e) / temperature (> 0, may be
// infinite).
constexpr uint32_t weight_exponent(float below, float scale) {
  constexpr uint32_t kMost = uint32_t{kWeightBits} << 24;
  if (below == 0.0f) return kMost;
  const float distance = below * scale;
  if (!(distance < static_cast<float>(kWeightBits))) return 0;
  // Exact: a product with a power of two, then the integer part.
  return kMost - static_cast<uint32_t>(distance * 16777216.0f);
}

constexpr uint64_t weight_of_exponent(uint32_t exponent) {
  if (exponent == 0) return 0;
  const uint64_t mantissa = exp2_fraction(exponent & 0xFFFFFFu);  // in units of 2^-31
  const uint32_t power = exponent >> 24;
  return power >= 31 ? mantissa << (power - 31) : mantissa >> (31 - power);
}

constexpr uint64_t integer_weight(float below, float scale) {
  return weight_of_exponent(weight_exponent(below, scale));
}

// The high 64 bits of a * b.
constexpr uint64_t multiply_high(uint64_t a, uint64_t b) {
  const uint64_t a_low = a & 0xFFFFFFFFu, a_high = a >> 32, b_low = b & 0xFFFFFFFFu, b_high = b >> 32;
  const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
  const uint64_t other = a_low * b_high + (middle & 0xFFFFFFFFu);
  return a_high * b_high + (middle >> 32) + (other >> 32);
}

// 64 random bits to one of `total` equally likely values; the bias is below total / 2^64.
constexpr uint64_t draw_below(uint64_t total, uint64_t random) { return multiply_high(random, total); }

// top-p: the weight that the kept tokens must reach together, 1 .. total.
constexpr uint64_t mass_to_keep(float top_p, uint64_t total) {
  const double mass = static_cast<double>(top_p) * static_cast<double>(total);
  const auto floor = static_cast<uint64_t>(mass);
  const uint64_t ceiling = static_cast<double>(floor) < mass ? floor + 1 : floor;
  return ceiling < 1 ? 1 : ceiling > total ? total : ceiling;
}

// min-p: the smallest weight that is kept, at least 1.
constexpr uint64_t weight_to_keep(float min_p) { return min_p > 0 ? mass_to_keep(min_p, kFullWeight) : 1; }

}  // namespace llamita
