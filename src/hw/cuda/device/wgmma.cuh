// wgmma over K-major tiles in the 128-byte swizzle: the operand descriptors, and one K step of 64 elements.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"
#include "hw/cuda/device/ptx/wgmma.cuh"
#include "hw/cuda/device/ptx/wgmma_mma.cuh"
#include "hw/cuda/device/swizzle.cuh"

namespace llamita::device {

// A matrix of rows of 128 bytes at a 1024-byte border. Fields in units of 16 bytes: start address (bits
// 0-13); leading offset (16-29), which a swizzled K-major operand does not use; stride between groups of
// eight rows (32-45): 1024 bytes; bits 62-63: 1 for the 128-byte swizzle.
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* tile) {
  constexpr uint64_t kFixed = (uint64_t{1} << 62) | (uint64_t{1024 / 16} << 32) | (uint64_t{1} << 16);
  return kFixed | ((ptx::smem_address(tile) & 0x3FFFF) >> 4);
}

// The hardware applies the swizzle to the address, so 16 elements further along K are 32 bytes further in the
// address, whatever the row; 64 rows further are 64 * 128 bytes.
inline constexpr uint64_t kDescriptorK16 = 32 / 16;
inline constexpr uint64_t kDescriptor64Rows = 64 * kSwizzleRowBytes / 16;

// B stored (K, N), N contiguous: panels of 64 columns, each kPanelRows rows of 128 bytes. The leading offset
// is the way to the next panel, the stride the way to the next eight rows of K. 16 elements further along K
// are 16 rows.
template <int kPanelRows>
__device__ __forceinline__ uint64_t wgmma_descriptor_transposed(const void* tile) {
  constexpr uint64_t kFixed = (uint64_t{1} << 62) | (uint64_t{1024 / 16} << 32) |
                              (uint64_t{kPanelRows * kSwizzleRowBytes / 16} << 16);
  return kFixed | ((ptx::smem_address(tile) & 0x3FFFF) >> 4);
}
inline constexpr uint64_t kDescriptorK16Transposed = 16 * kSwizzleRowBytes / 16;

// d(64, N) = a(64, 64) b(N, 64)^T + accumulate d: four multiplies, queued, not awaited.
template <class Element, int kN>
__device__ __forceinline__ void wgmma_k64(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
#pragma unroll
  for (int k16 = 0; k16 < 4; ++k16)
    ptx::Wgmma<Element, kN>::ss(d, a + k16 * kDescriptorK16, b + k16 * kDescriptorK16, accumulate || k16 > 0);
}

}  // namespace llamita::device
