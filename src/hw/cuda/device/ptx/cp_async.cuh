// cp.async (sm_80): 16 bytes from global to shared memory without passing through registers, past L1.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"

namespace llamita::ptx {

// Copies 16 bytes when `valid`, else writes 16 zero bytes and reads nothing. Both addresses 16-byte aligned.
__device__ __forceinline__ void cp_async_16(void* smem, const void* global, bool valid) {
  const uint32_t bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address(smem)), "l"(global),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most kPending of the thread's newest groups are still under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace llamita::ptx
