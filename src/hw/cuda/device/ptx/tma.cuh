// cp.async.bulk.tensor (TMA, sm_90): one thread moves a box of a tensor; coordinates are elements, innermost
// first. Loads report their bytes to an mbarrier; stores are counted in groups of the issuing thread.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"

namespace llamita::ptx {

__device__ __forceinline__ void tma_prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ __forceinline__ void tma_load_2d(void* smem, const CUtensorMap* map, int column, int row,
                                            uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(smem_address(smem)),
      "l"(map), "r"(column), "r"(row), "r"(smem_address(barrier))
      : "memory");
}

// The box lands at the same place of every block in `mask`, and each of those blocks' barriers gets its
// bytes.
__device__ __forceinline__ void tma_load_2d_multicast(void* smem, const CUtensorMap* map, int column, int row,
                                                      uint64_t* barrier, uint16_t mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(smem_address(smem)),
      "l"(map), "r"(column), "r"(row), "r"(smem_address(barrier)), "h"(mask)
      : "memory");
}

__device__ __forceinline__ void tma_store_2d(const CUtensorMap* map, const void* smem, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map),
               "r"(column), "r"(row), "r"(smem_address(smem))
               : "memory");
}

// Adds the box to what lies in global memory, element by element, in the tensor's type.
__device__ __forceinline__ void tma_add_2d(const CUtensorMap* map, const void* smem, int column, int row) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(
          map),
      "r"(column), "r"(row), "r"(smem_address(smem))
      : "memory");
}

// Boxes of rank 3. `at`: outermost first, as the tensor's shape.
__device__ __forceinline__ void tma_load_3d(void* smem, const CUtensorMap* map, int3 at, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3, %4}], [%5];" ::"r"(smem_address(smem)),
      "l"(map), "r"(at.z), "r"(at.y), "r"(at.x), "r"(smem_address(barrier))
      : "memory");
}

__device__ __forceinline__ void tma_store_3d(const CUtensorMap* map, const void* smem, int3 at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(map),
      "r"(at.z), "r"(at.y), "r"(at.x), "r"(smem_address(smem))
      : "memory");
}

// Boxes of rank 4. `at`: outermost first, as the tensor's shape.
__device__ __forceinline__ void tma_load_4d(void* smem, const CUtensorMap* map, int4 at, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3, %4, %5}], [%6];" ::"r"(smem_address(smem)),
      "l"(map), "r"(at.w), "r"(at.z), "r"(at.y), "r"(at.x), "r"(smem_address(barrier))
      : "memory");
}

// The box comes into L2 and no further.
__device__ __forceinline__ void tma_prefetch_4d(const CUtensorMap* map, int4 at) {
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(map),
               "r"(at.w), "r"(at.z), "r"(at.y), "r"(at.x)
               : "memory");
}

__device__ __forceinline__ void tma_store_4d(const CUtensorMap* map, const void* smem, int4 at) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
      "r"(at.w), "r"(at.z), "r"(at.y), "r"(at.x), "r"(smem_address(smem))
      : "memory");
}

__device__ __forceinline__ void tma_store_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Until the shared memory of all but the kPending newest store groups may be overwritten.
template <int kPending>
__device__ __forceinline__ void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// Until all but the kPending newest store groups are visible in global memory.
template <int kPending>
__device__ __forceinline__ void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace llamita::ptx
