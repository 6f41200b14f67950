#include "ops/linear/tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hw/cuda/stream.h"

namespace llamita {

namespace {

constexpr int kTileM = 128;
constexpr GemmTile kTiles[] = {{256, 1}, {224, 1}, {192, 1}, {160, 1}, {128, 1}, {96, 1},  {256, 2},
                               {192, 2}, {160, 2}, {128, 2}, {96, 2},  {256, 3}, {192, 3}, {128, 3},
                               {256, 4}, {192, 4}, {128, 4}, {256, 5}, {192, 5}};

// Whole tiles of this width that keep three fifths of the card busy are never split: at 512 x 3072 x 8192 two
// parts of 192 columns took 52 to 55 us on a busy card, where one launch alone promises 44.
constexpr int kSplitBelow = 128;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Tiles of a cluster.
int units(const GemmShape& s, GemmTile tile) {
  return ceil_div(s.M, kTileM * gemm_cluster(s)) * ceil_div(s.N, gemm_out_width(s, tile));
}

int clusters(const GemmShape& s) { return std::max(s.sm_count / gemm_cluster(s), 1); }

}  // namespace

int gemm_cluster(const GemmShape& s) { return ceil_div(s.M, kTileM) % 2 == 0 ? 2 : 1; }

int gemm_out_width(const GemmShape& s, GemmTile tile) { return s.gated ? tile.width / 2 : tile.width; }

bool gemm_tile_fits(const GemmShape& s, GemmTile tile) {
  if (s.gated && (tile.width % 64 != 0 || tile.splits > 1)) return false;
  if (gemm_cluster(s) == 1 && tile.width % 64 != 0) return false;
  return tile.splits == 1 ||
         (units(s, {kSplitBelow}) < 0.6 * clusters(s) && tile.splits * units(s, tile) <= clusters(s) &&
          ceil_div(s.K, 64) >= 4 * tile.splits &&
          gemm_exchange_bytes(s, tile) <= static_cast<int64_t>(cuda::Stream::kExchangeBytes));
}

std::span<const GemmTile> gemm_tiles() { return kTiles; }

int64_t gemm_exchange_bytes(const GemmShape& s, GemmTile tile) {
  if (tile.splits == 1) return 0;
  return int64_t{4} * tile.splits * units(s, tile) * gemm_cluster(s) * kTileM * tile.width;
}

// Fitted to the 40 shapes of the grid on an H100 (docs/performance/kernels.md):
// - a step of 64 along K costs the larger of wgmma's rate, half a clock a column and 16 of K for each of two
//   consumers, and what an SM takes in, 64 bytes a clock;
// - the clock falls from 1.83 GHz to 1.53 as more of the card multiplies, further in narrow tiles, which move
//   more bytes a product: the power limit;
// - memory gives 2.5 TB/s to so few blocks; a launch takes 5 us that nothing hides;
// - sums that are exchanged end up in memory, and each block waits for each other part;
// - fp32 outputs are stored before the next tile begins, 16-bit ones under it.
double gemm_tile_us(const GemmShape& s, GemmTile tile) {
  constexpr double kLaunchUs = 5, kMemoryBytesPerUs = 2.5e6;
  const int columns = gemm_out_width(s, tile), work = tile.splits * units(s, tile);
  const double waves = ceil_div(work, clusters(s));
  const double busy = work / (waves * clusters(s));
  const double hot = std::max(2 * busy - 1, 0.0);
  const double clocks_per_us = (1830 - 300 * hot) * (1 - 0.0004 * (256 - tile.width) * hot);
  const double steps = std::ceil(s.K / 64.0 / tile.splits);
  const double step = std::max(4.0 * tile.width, 2.0 * (kTileM + tile.width));
  const double store = s.f32_out ? 600 + 12.0 * columns : 300;
  const double exchanged =
      static_cast<double>(gemm_exchange_bytes(s, tile)) * (tile.splits - 1) / tile.splits;
  const double exchange_us = tile.splits == 1 ? 0 : 1.5 + 0.5 * (tile.splits - 2) + exchanged / 2e6;
  const double bytes = 2.0 * s.K * (double{1} * s.M + (s.gated ? 2.0 : 1.0) * s.N);
  const double multiply_us = waves * (steps * step + store) / clocks_per_us;
  // A tenth of the multiplies where memory binds, so that of equals the quickest wins.
  return kLaunchUs + exchange_us + std::max(multiply_us, bytes / kMemoryBytesPerUs + 0.1 * multiply_us);
}

GemmTile best_gemm_tile(const GemmShape& s) {
  GemmTile best = kTiles[0];
  double best_us = std::numeric_limits<double>::infinity();
  for (const GemmTile tile : kTiles) {
    if (!gemm_tile_fits(s, tile)) continue;
    const double us = gemm_tile_us(s, tile);
    if (us < best_us) best = tile, best_us = us;
  }
  return best;
}

}  // namespace llamita
