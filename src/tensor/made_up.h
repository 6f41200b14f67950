// Made-up weights: numbers that look like a trained model's to everything but its answers, for measuring
// shapes whose files are not here. A pure function of (seed, index), so that every device makes the same
// bits.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define LLAMITA_MADE_UP_FUNCTION __host__ __device__ inline
#else
#define LLAMITA_MADE_UP_FUNCTION inline
#endif

namespace llamita {

// Element i is mean + spread * u, with u uniform in [-1, 1).
struct MadeUp {
  uint64_t seed = 0;
  float mean = 0;
  float spread = 0;
};

// The finaliser of a 64-bit hash over a counter: each index gives 24 independent bits.
LLAMITA_MADE_UP_FUNCTION float made_up_value(const MadeUp& numbers, uint64_t index) {
  uint64_t z = numbers.seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  // A whole number in [-2^23, 2^23) is exact in f32, and so is its division by 2^23.
  const float u = static_cast<float>(static_cast<int32_t>(z >> 40) - (1 << 23)) / 8388608.0f;
#if defined(__CUDA_ARCH__)
  return __fadd_rn(numbers.mean, __fmul_rn(numbers.spread, u));  // never one fused operation, as on the host
#else
  return numbers.mean + numbers.spread * u;
#endif
}

}  // namespace llamita

#undef LLAMITA_MADE_UP_FUNCTION
