// What L2 is to do with the lines of an access: priorities of eviction.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"

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

// cp.async of 16 bytes (cp_async.cuh) under a policy.
__device__ __forceinline__ void cp_async_16(void* smem, const void* global, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(smem_address(smem)),
               "l"(global), "l"(policy)
               : "memory");
}

}  // namespace llamita::ptx
