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

}  // namespace llamita::ptx
