// Loads that nobody waits for.
#pragma once

namespace llamita::ptx {

// Brings the 32 bytes around `from` (global memory) to L1. A load, because what the prefetch instruction does
// there is the driver's choice.
__device__ __forceinline__ void touch(const void* from) {
  asm volatile("{ .reg .b32 unused; ld.global.b32 unused, [%0]; }" ::"l"(from) : "memory");
}

}  // namespace llamita::ptx
