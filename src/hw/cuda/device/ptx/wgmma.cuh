// The order of asynchronous warpgroup matrix multiplies (sm_90a). A group of them is: fence (once the
// accumulators, or A fragments in registers, were last written by ordinary code), the multiplies
// (wgmma_mma.cuh), commit, and a wait before ordinary code reads the accumulators or anyone overwrites the
// shared memory they read.
#pragma once

namespace llamita::ptx {

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most kPending of the newest groups are still under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Emits nothing; tells the compiler that the accumulators change here, so that no read of them moves above a
// wait.
template <int kCount>
__device__ __forceinline__ void wgmma_pin(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

}  // namespace llamita::ptx
