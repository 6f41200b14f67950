// mbarrier: a 64-bit counter in shared memory. A phase completes when the expected arrivals came and all
// announced bytes landed; then the next phase begins. A wait names the parity of the phase it waits for:
// after init, phase 0 is running, so wait(0) blocks until it completes, and wait(1) passes at once ("the
// phase before the first").
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"

namespace llamita::ptx {

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(barrier)), "r"(arrivals)
               : "memory");
}

__device__ __forceinline__ void mbarrier_invalidate(uint64_t* barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(smem_address(barrier)) : "memory");
}

// After init, before any other thread, block or copy engine uses the barriers. A block (or cluster) barrier
// must follow.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(barrier)) : "memory");
}

// Arrives at the barrier at the same place in block `rank` of the cluster. It tells a producer that reads are
// over; it publishes no writes to the other block, which would need .release.cluster, a fence of hundreds of
// cycles.
__device__ __forceinline__ void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(cluster_address(smem_address(barrier), rank))
      : "memory");
}

// One arrival that also announces `bytes` which the copy engine will deliver in this phase.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(barrier)),
               "r"(bytes)
               : "memory");
}

// The same at the barrier at the same place in block `rank` of the cluster, for bytes that go there.
__device__ __forceinline__ void mbarrier_arrive_expect_tx_cluster(uint64_t* barrier, uint32_t bytes,
                                                                  uint32_t rank) {
  asm volatile("mbarrier.arrive.expect_tx.relaxed.cluster.shared::cluster.b64 _, [%0], %1;" ::"r"(
                   cluster_address(smem_address(barrier), rank)),
               "r"(bytes)
               : "memory");
}

// May suspend the thread for a short while; true when the phase of that parity has completed.
__device__ __forceinline__ bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(done)
      : "r"(smem_address(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}

__device__ __forceinline__ uint64_t global_timer_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

// Spins until the phase of that parity has completed. Builds with LLAMITA_DEVICE_TIMEOUT stop the kernel
// after two seconds: a wrong byte count or parity then is an error with a name instead of a hang.
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
#if LLAMITA_DEVICE_TIMEOUT
  if (mbarrier_try_wait(barrier, parity)) return;
  const uint64_t begin = global_timer_ns();
  while (!mbarrier_try_wait(barrier, parity))
    if (global_timer_ns() - begin > 2'000'000'000ull) __trap();
#else
  while (!mbarrier_try_wait(barrier, parity)) {
  }
#endif
}

}  // namespace llamita::ptx
