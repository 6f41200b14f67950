// grouped_tile visits every tile once, whatever the grid, and keeps neighbours in time close in space;
// TileOrder is the same order; Divider divides.
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

TEST(TileOrder, PreparedIsTheSameOrder) {
  for (const int rows : {1, 2, 3, 8, 9, 65})
    for (const int columns : {1, 5, 12, 1336})
      for (const int group : {1, 4, 8}) {
        const device::TileOrder order(rows, columns, group);
        int wrong = 0;
        for (int i = 0; i < rows * columns; ++i) {
          const int2 a = order.tile(i), b = device::grouped_tile(i, rows, columns, group);
          wrong += a.x != b.x || a.y != b.y;
        }
        EXPECT_EQ(wrong, 0) << rows << " x " << columns << " / " << group;
      }
}

TEST(Divider, DividesWhateverIsAsked) {
  for (const int by : {1, 2, 3, 7, 641, 65536, 10688, INT32_MAX})
    for (const int n :
         {0, 1, 2, by - 1, by, INT32_MAX / by * by - 1, INT32_MAX / by * by, INT32_MAX - 1, INT32_MAX})
      EXPECT_EQ(device::Divider(by).quotient(n), n / by) << n << " / " << by;
}

}  // namespace
}  // namespace llamita
