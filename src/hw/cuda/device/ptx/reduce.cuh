// Additions that memory does itself.
#pragma once

namespace llamita::ptx {

// Adds four floats to what lies at `to`, 16-byte aligned, and waits for nothing (sm_90).
__device__ __forceinline__ void reduce_add_float4(float4* to, float4 v) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y),
               "f"(v.z), "f"(v.w)
               : "memory");
}

}  // namespace llamita::ptx
