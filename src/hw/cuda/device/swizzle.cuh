// The 128-byte swizzle. A tile is rows of 128 bytes (64 elements of 16 bits); its 16-byte pieces are permuted
// inside each row by piece ^ (row % 8), so the same piece of eight consecutive rows lies in eight different
// bank groups: ldmatrix, stmatrix, wgmma and TMA all move such columns without conflicts. Tiles start at
// multiples of 1024 bytes, where the copy engine and the tensor core count rows from. TMA writes this order
// with TmaSwizzle::span128.
#pragma once

#include <cstdint>

namespace llamita::device {

inline constexpr int kSwizzleRowBytes = 128;
inline constexpr int kSwizzleRowElems = 64;  // of 16 bits
inline constexpr int kSwizzleAlign = 1024;

// Byte offset of 16-byte piece `piece` (0..7) of row `row`.
__host__ __device__ constexpr uint32_t swizzled_piece(uint32_t row, uint32_t piece) {
  return row * kSwizzleRowBytes + ((piece ^ (row & 7)) << 4);
}

// Byte offset of byte `byte` (0..127) of row `row`.
__host__ __device__ constexpr uint32_t swizzled_byte(uint32_t row, uint32_t byte) {
  return swizzled_piece(row, byte >> 4) + (byte & 15);
}

}  // namespace llamita::device
