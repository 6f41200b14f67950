// Arithmetic that CUDA C++ has no word for.
#pragma once

namespace llamita::ptx {

// By the special function unit: 2^x, relative error 2^-22; 0 for -inf and where the result would be denormal.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// NaN when one of the two is; fmaxf gives the other.
__device__ __forceinline__ float max_or_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

}  // namespace llamita::ptx
