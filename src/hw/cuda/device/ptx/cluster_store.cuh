// Stores into the shared memory of another block of the cluster, or of this one.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"

namespace llamita::ptx {

// To the same place in block `rank` of the cluster, and 16 bytes to the count of the barrier at the same
// place there, on which a waiting thread sees the value. Both are addresses of this block's.
__device__ __forceinline__ void store_async_float4(float4* to, float4 v, uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
          cluster_address(smem_address(to), rank)),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(cluster_address(smem_address(barrier), rank))
      : "memory");
}

// The same with 8 bytes, of two kinds.
__device__ __forceinline__ void store_async_float2(float2* to, float2 v, uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(
          cluster_address(smem_address(to), rank)),
      "f"(v.x), "f"(v.y), "r"(cluster_address(smem_address(barrier), rank))
      : "memory");
}

__device__ __forceinline__ void store_async_u64(uint64_t* to, uint64_t value, uint64_t* barrier,
                                                uint32_t rank) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(
                   cluster_address(smem_address(to), rank)),
               "l"(value), "r"(cluster_address(smem_address(barrier), rank))
               : "memory");
}

}  // namespace llamita::ptx
