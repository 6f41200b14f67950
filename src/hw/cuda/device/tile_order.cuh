// The order in which persistent blocks visit the tiles of a matrix.
#pragma once

#include <cuda_runtime_api.h>

namespace llamita::device {

// Tile i of a grid of rows x columns of tiles: {row, column}. Rows are taken in groups of `group`, and inside
// a group the order runs down the rows first: the tiles that run at one time form a near-square patch, which
// reads the fewest distinct rows of A and B and keeps them in L2.
__host__ __device__ __forceinline__ int2 grouped_tile(int i, int rows, int columns, int group) {
  const int band = i / (group * columns), first = band * group;
  const int height = rows - first < group ? rows - first : group;
  const int inside = i - band * group * columns;
  return {first + inside % height, inside / height};
}

}  // namespace llamita::device
