// Barriers and hand-overs that CUDA C++ has no word for: named block barriers, clusters, register trading
// between warpgroups, and programmatic dependent launch.
#pragma once

#include <cstdint>

namespace llamita::ptx {

// Barrier `id` (1..15; 0 is __syncthreads) among `threads` threads, a multiple of 32, counted by whole warps.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts at the barrier without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All threads of all blocks of the cluster, converged or not. Also a memory barrier among them.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// The same in two steps and without a memory barrier: the release above is a fence of the whole card,
// hundreds of clocks. Enough where the barrier says that the others run, and that mbarriers are set up whose
// init fence came before.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait;" ::: "memory"); }

// What ptxas gives each thread of a block of __launch_bounds__(threads, 1) that trades registers. Of 384
// threads that are 168, 1,024 registers less than the SM has: the block never gets those.
constexpr int launch_registers(int threads) { return 65536 / threads / 8 * 8; }

// sm_90a. Every warp of the warpgroup executes it; the kernel needs __launch_bounds__(threads, 1), and the
// sum over all its threads must not exceed threads * launch_registers(threads), or increase waits for ever.
// kRegisters: a multiple of 8, 24..256.
template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// PDL. wait: until the predecessor kernels in the stream are complete and their writes visible; returns at
// once in a launch without PDL. launch_dependents: the successor may start when every block has said so or
// exited.
__device__ __forceinline__ void grid_dependency_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

__device__ __forceinline__ void grid_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace llamita::ptx
