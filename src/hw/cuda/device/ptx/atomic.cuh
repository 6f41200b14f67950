// Atomics with an order, for counters that hand results from block to block.
#pragma once

#include <cstdint>

namespace llamita::ptx {

// Adds 1 and wraps to 0 after `limit`; returns what was there. Orders this thread's earlier writes before the
// new value, and its later reads behind the value it saw.
__device__ __forceinline__ uint32_t atomic_inc_acq_rel(uint32_t* counter, uint32_t limit) {
  uint32_t old;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(counter), "r"(limit)
               : "memory");
  return old;
}

// Adds 1. Orders this thread's earlier writes, and those it has seen, before the new value.
__device__ __forceinline__ void add_one_release(uint32_t* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

// Orders this thread's later reads behind the value it saw.
__device__ __forceinline__ uint32_t load_acquire(const uint32_t* counter) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}

}  // namespace llamita::ptx
