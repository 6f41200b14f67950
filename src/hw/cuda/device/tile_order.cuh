// The order in which persistent blocks visit the tiles of a matrix.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

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

// Division by a number that the host knows: a multiplication and a correction, where the hardware's would
// take a hundred clocks. Exact for n >= 0 and by >= 1.
class Divider {
 public:
  Divider() = default;
  __host__ explicit Divider(int by) : by_(static_cast<uint32_t>(by)), inverse_(UINT32_MAX / by_) {}

  __host__ __device__ __forceinline__ int by() const { return static_cast<int>(by_); }
  __host__ __device__ __forceinline__ int quotient(int n) const {
    const auto of = static_cast<uint32_t>(n);
    const auto low = static_cast<uint32_t>(uint64_t{of} * inverse_ >> 32);  // exact or one too few
    return static_cast<int>(of - low * by_ >= by_ ? low + 1 : low);
  }

 private:
  uint32_t by_ = 1, inverse_ = UINT32_MAX;
};

// grouped_tile of one grid, for kernels that ask before their first load.
class TileOrder {
 public:
  TileOrder() = default;
  __host__ TileOrder(int rows, int columns, int group)
      : group_(group),
        last_band_((rows - 1) / group),
        band_(group * columns),
        height_(group),
        last_height_(rows - last_band_ * group) {}

  __host__ __device__ __forceinline__ int2 tile(int i) const {
    const int band = band_.quotient(i), inside = i - band * band_.by();
    const Divider height = band == last_band_ ? last_height_ : height_;
    const int column = height.quotient(inside);
    return {band * group_ + inside - column * height.by(), column};
  }

 private:
  int group_ = 1, last_band_ = 0;
  Divider band_, height_, last_height_;
};

}  // namespace llamita::device
