// Approximations of the special function unit.
#pragma once

namespace llamita::ptx {

// 2^x, relative error 2^-22; 0 for -inf and where the result would be denormal.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace llamita::ptx
