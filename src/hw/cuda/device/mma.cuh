// Warp fragments of mma.sync m16n8k16 from tiles in the 128-byte swizzle (64 elements a row, K innermost).
// One ldmatrix fills one A fragment, or the B fragments of two neighbouring 8-column blocks.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/matrix_move.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "hw/cuda/device/swizzle.cuh"

namespace llamita::device {

// Rows row..row+15, K elements 16 k16 .. + 15. Lanes 0-15 name the rows' first piece, lanes 16-31 the second.
__device__ __forceinline__ void load_a_fragment(uint32_t (&a)[4], const uint8_t* tile, int row, int k16,
                                                int lane) {
  ptx::ldmatrix_x4(a, tile + swizzled_piece(row + (lane & 15), 2 * k16 + (lane >> 4)));
}

// Rows (output columns) row..row+15: b[0], b[1] serve columns row..row+7, b[2], b[3] the next eight.
__device__ __forceinline__ void load_b_fragments(uint32_t (&b)[4], const uint8_t* tile, int row, int k16,
                                                 int lane) {
  ptx::ldmatrix_x4(b,
                   tile + swizzled_piece(row + (lane & 7) + ((lane >> 4) << 3), 2 * k16 + ((lane >> 3) & 1)));
}

}  // namespace llamita::device
