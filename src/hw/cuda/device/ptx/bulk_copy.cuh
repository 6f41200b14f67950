// cp.async.bulk (sm_90): one thread moves a run of bytes to shared memory, or asks for it in L2. Addresses
// and sizes are multiples of 16 bytes.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"

namespace llamita::ptx {

// Reports its bytes to the barrier. `policy`: cache.cuh.
__device__ __forceinline__ void bulk_load(void* smem, const void* global, uint32_t bytes, uint64_t* barrier,
                                          uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], %4;" ::"r"(smem_address(smem)),
      "l"(global), "r"(bytes), "r"(smem_address(barrier)), "l"(policy)
      : "memory");
}

__device__ __forceinline__ void bulk_prefetch(const void* global, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes) : "memory");
}

}  // namespace llamita::ptx
