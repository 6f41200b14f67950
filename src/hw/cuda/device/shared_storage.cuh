// Dynamic shared memory as a struct at a 1024-byte border, which swizzled tiles need. Ask for
// smem_bytes<Storage>() at the launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/cuda/device/ptx/smem.cuh"
#include "hw/cuda/device/swizzle.cuh"

namespace llamita::device {

template <class Storage>
__device__ __forceinline__ Storage& shared_storage() {
  extern __shared__ uint8_t raw_smem[];
  const uint32_t address = ptx::smem_address(raw_smem);
  const uint32_t skip = (kSwizzleAlign - address % kSwizzleAlign) % kSwizzleAlign;
  return *reinterpret_cast<Storage*>(raw_smem + skip);
}

template <class Storage>
constexpr size_t smem_bytes() {
  return sizeof(Storage) + kSwizzleAlign;
}

}  // namespace llamita::device
