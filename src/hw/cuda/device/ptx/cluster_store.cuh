// Stores into the shared memory of another block of the cluster.
#pragma once

#include <cstdint>

namespace llamita::ptx {

// To an address that cluster_address made; a cluster barrier makes it visible there.
__device__ __forceinline__ void store_cluster_u64(uint32_t address, uint64_t value) {
  asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
}

}  // namespace llamita::ptx
