// Fences between the proxies of shared memory.
#pragma once

namespace llamita::ptx {

// Ordinary (and stmatrix) writes of this thread to shared memory become visible to TMA and wgmma. Each
// writing thread executes it, then a barrier, then the copy engine or the tensor core may read.
__device__ __forceinline__ void fence_proxy_async_smem() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace llamita::ptx
