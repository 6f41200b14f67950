// grouped_tile visits every tile once, whatever the grid, and keeps neighbours in time close in space.
#include "hw/cuda/device/tile_order.cuh"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace llamita {
namespace {

TEST(TileOrder, EveryTileOnce) {
  for (const int rows : {1, 2, 3, 8, 9, 64})
    for (const int columns : {1, 5, 12, 112})
      for (const int group : {1, 4, 8}) {
        std::set<std::pair<int, int>> seen;
        for (int i = 0; i < rows * columns; ++i) {
          const int2 tile = device::grouped_tile(i, rows, columns, group);
          EXPECT_TRUE(tile.x >= 0 && tile.x < rows && tile.y >= 0 && tile.y < columns)
              << i << " of " << rows << " x " << columns;
          seen.insert({tile.x, tile.y});
        }
        EXPECT_EQ(static_cast<int>(seen.size()), rows * columns)
            << rows << " x " << columns << " / " << group;
      }
}

TEST(TileOrder, TheTilesOfOneWaveFormAPatch) {
  std::set<int> rows, columns;
  for (int i = 0; i < 64; ++i) {
    const int2 tile = device::grouped_tile(i, 32, 64, 8);
    rows.insert(tile.x);
    columns.insert(tile.y);
  }
  EXPECT_EQ(rows.size(), 8u);
  EXPECT_EQ(columns.size(), 8u);
}

}  // namespace
}  // namespace llamita
