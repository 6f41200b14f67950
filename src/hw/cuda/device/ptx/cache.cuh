// What L2 is to do with the lines of an access: priorities of eviction.
#pragma once

#include <cstdint>

namespace llamita::ptx {

// For data that is read once: its lines leave first, so that a stream far larger than L2 does not push out
// what the next kernels need.
__device__ __forceinline__ uint64_t policy_evict_first() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Asks for the line of an address, up to L2.
__device__ __forceinline__ void prefetch_line(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global) : "memory");
}

}  // namespace llamita::ptx
