#include "ops/linear/tiles.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace llamita {

namespace {

constexpr int kTileM = 128;
constexpr int kClusterBlocks = 8;  // what every card can place

constexpr auto kTiles = [] {
  constexpr int kWidths[] = {256, 224, 192, 160, 128, 96};
  std::array<GemmTile, 96> tiles{};
  size_t count = 0;
  for (const int width : kWidths)
    for (const int splits : {1, 2, 3, 4})
      for (const int rows : {1, 2, 4})
        for (const int columns : {1, 2, 4})
          if (rows * columns * splits <= kClusterBlocks && (splits == 1 || width % 64 == 0 || width == 96) &&
              !(splits > 1 && rows == 4) && !(columns == 4 && rows == 1))
            tiles[count++] = {width, splits, rows, columns};
  return std::pair(tiles, count);
}();

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Clusters of a problem.
int units(const GemmShape& s, GemmTile tile) {
  return ceil_div(s.M, kTileM * tile.rows) * ceil_div(s.N, gemm_out_width(s, tile) * tile.columns);
}

// Clusters that run at one time: each lies within a group of 16 or 18 multiprocessors.
int clusters(const GemmShape& s, GemmTile tile) {
  const int size = tile.rows * tile.columns * tile.splits;
  return std::max(size <= 2 ? s.sm_count / size : 16 / size * (s.sm_count / 16), 1);
}

}  // namespace

int gemm_out_width(const GemmShape& s, GemmTile tile) { return s.gated ? tile.width / 2 : tile.width; }

bool gemm_tile_fits(const GemmShape& s, GemmTile tile) {
  if (s.gated && (tile.width % 64 != 0 || tile.splits > 1)) return false;
  return ceil_div(s.M, kTileM) % tile.rows == 0 && ceil_div(s.K, 64) >= 4 * tile.splits;
}

std::span<const GemmTile> gemm_tiles() { return std::span(kTiles.first).first(kTiles.second); }

// Fitted to the 40 shapes of the grid on an H100 (docs/performance/kernels.md):
// - a step of 64 along K costs the larger of wgmma's rate, half a clock a column and 16 of K for each of two
//   consumers, and what an SM takes in, 64 bytes a clock;
// - the clock falls from 1.83 GHz to 1.53 as more of the card multiplies, further in narrow tiles, which move
//   more bytes a product: the power limit;
// - memory gives 2.5 TB/s to so few blocks; a launch takes 5 us that nothing hides;
// - sums that are exchanged end up in memory, and each block waits for each other part;
// - fp32 outputs are stored before the next tile begins, 16-bit ones under it.
double gemm_tile_us(const GemmShape& s, GemmTile tile) {
  constexpr double kLaunchUs = 5, kMemoryBytesPerUs = 2.5e6, kL2BytesPerUs = 7.5e6;
  const int columns = gemm_out_width(s, tile), work = units(s, tile), blocks = tile.rows * tile.columns * tile.splits;
  const double waves = ceil_div(work, clusters(s, tile));
  const double busy = work * blocks / (waves * std::max(s.sm_count, 1));
  const double hot = std::max(2 * busy - 1, 0.0);
  const double clocks_per_us = 1830 - 300 * hot;
  const double steps = std::ceil(s.K / 64.0 / tile.splits);
  const double step = std::max(4.0 * tile.width, 2.0 * (kTileM + tile.width));
  const double store = s.f32_out ? 600 + 12.0 * columns : 300;
  const double exchange_us =
      tile.splits == 1 ? 0 : 0.7 + 512.0 * tile.width * (tile.splits - 1) / tile.splits / 4e4;
  const double matrices = s.gated ? 2.0 : 1.0;
  const double bytes = 2.0 * s.K * (double{1} * s.M + matrices * s.N);
  const double l2_bytes = 2.0 * s.K * work * (double{kTileM} * tile.rows + tile.width * tile.columns);
  const double multiply_us = waves * (steps * step + store) / clocks_per_us;
  // A tenth of the multiplies where memory binds, so that of equals the quickest wins.
  return kLaunchUs + exchange_us +
         std::max({multiply_us, bytes / kMemoryBytesPerUs + 0.1 * multiply_us, l2_bytes / kL2BytesPerUs});
}

GemmTile best_gemm_tile(const GemmShape& s) {
  GemmTile best = {256};
  double best_us = std::numeric_limits<double>::infinity();
  for (const GemmTile tile : gemm_tiles()) {
    if (!gemm_tile_fits(s, tile)) continue;
    const double us = gemm_tile_us(s, tile);
    if (us < best_us) best = tile, best_us = us;
  }
  return best;
}

}  // namespace llamita
