#include "ops/linear/tiles.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace llamita {

namespace {

constexpr auto kTiles = [] {
  std::array<GemmTile, 48> tiles{};
  size_t count = 0;
  for (const int width : {256, 224, 192, 160, 128, 96})
    for (const int splits : {1, 2, 3, 4})
      for (const int i : {0, 1}) {
        // Of equals the first is taken: pairs, but smaller clusters where K is divided.
        const int rows = splits == 1 ? 2 - i : 1 + i;
        if (splits == 1 || (width != 224 && width != 160)) tiles[count++] = {width, splits, rows};
      }
  for (const int width : {160, 128, 96})
    for (const int rows : {2, 1}) tiles[count++] = {width, 1, rows, 64};
  // 128 x 128 in pairs alone: a single one takes in a third more a product, and was never 1 % ahead of all
  // others where blocks have a second tile, but up to 48 % behind where weights are large.
  for (const GemmTile tile : {GemmTile{192, 1, 2}, {192, 1, 1}, {128, 1, 2}}) {
    tiles[count] = tile;
    tiles[count++].schedule = GemmSchedule::ping_pong;
  }
  return std::pair(tiles, count);
}();

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Clusters of a problem.
int units(const GemmShape& s, GemmTile tile) {
  return ceil_div(s.M, tile.height * tile.rows) * ceil_div(s.N, gemm_out_width(s, tile));
}

// Clusters that run at one time. Each lies within a group of 14 to 18 multiprocessors, so that those of four
// blocks leave a tenth of an H100 idle: 32 of them took two turns.
int clusters(const GemmShape& s, GemmTile tile) {
  constexpr double kUsable[] = {1, 1, 0.91, 0.91, 0.91, 0.91, 0.91, 0.85};
  const int size = tile.rows * tile.splits;
  return std::max(static_cast<int>(s.sm_count * kUsable[size - 1]) / size, 1);
}

}  // namespace

int gemm_out_width(const GemmShape& s, GemmTile tile) { return s.gated ? tile.width / 2 : tile.width; }

bool gemm_tile_fits(const GemmShape& s, GemmTile tile) {
  if (s.gated && (tile.width % 64 != 0 || tile.splits > 1 || tile.height != 128)) return false;
  if (tile.splits > 1 && tile.height != 128) return false;
  if (ceil_div(s.M, tile.height) % tile.rows != 0) return false;
  // Parts of unpaired rows load too much for L2 where the card is full: 512 x 4096 x 4096 took 35 us, not 30.
  if (tile.splits > 1 && tile.rows == 1 && s.M > 2 * tile.height &&
      units(s, tile) * tile.splits > 0.75 * s.sm_count)
    return false;
  return tile.splits == 1 || (ceil_div(s.K, 64) >= 4 * tile.splits && units(s, tile) <= clusters(s, tile));
}

std::span<const GemmTile> gemm_tiles() { return std::span(kTiles.first).first(kTiles.second); }

// Fitted on an H100 to 487 times of 49 products with every epilogue, M = 577 to 8192, and 155 of 24, M = 128
// to 512 (bench_gemm --shapes tiles, M = 577 with --tokens 577,2048,8192; docs/performance/kernels.md): the
// choices lose 0.7 % and 0.1 % in the mean to the best of those times, at most 6.7 % and 1.4 %. Ratios within
// a product were fitted: where the power limit holds, all of its tiles take a tenth longer. The limits of
// memory and what is said of one row of tiles go back to 363 times at M = 32 to 128.
// - a launch costs 1.8 us, divided K as much more (1.0 in one row of tiles) and its sums, pushed at 35 bytes
//   a nanosecond and block;
// - a step of 64 along K takes wgmma 4 clocks a column, no less than 428; half the rows 145 and 1.5 a column;
// - what its blocks take in from L2 slows it as more of the card works: a column of B that two rows share
//   counts three fifths;
// - memory gives 3.06 TB/s, and waits a microsecond where a block goes on to its next tile; multiplies
//   and memory hide behind each other but where both need the same time;
// - so do the tensor cores, while consumers that share a tile see its last multiplies end and pack its sums;
//   in turns that is hidden, and the same tile took 1.0 us less in the median;
// - fp32 outputs are stored at 18 bytes a clock before the next tile begins, 16-bit ones under it; an
//   activation takes two steps of the special function units, 16 a clock, and nothing multiplies meanwhile;
// - in turns, outputs are finished under the other consumer's tile; only the last is waited for.
double gemm_tile_us(const GemmShape& s, GemmTile tile) {
  constexpr double kLaunchUs = 1.8, kPushedBytesPerUs = 35e3, kNextTileUs = 1;
  constexpr double kMemoryBytesPerUs = 3.06e6, kClocksPerUs = 1760;
  const bool turns = tile.schedule == GemmSchedule::ping_pong, full = tile.height == 128;
  const int columns = gemm_out_width(s, tile), work = units(s, tile), blocks = tile.rows * tile.splits;
  const double waves = ceil_div(work, clusters(s, tile));
  const double busy = work * blocks / (waves * std::max(s.sm_count, 1));
  const double wgmma = full ? std::max(4.0 * tile.width, 428.0) : 145 + 1.5 * tile.width;
  const double taken_in = tile.height + (tile.rows == 1 ? 1.0 : 0.6) * tile.width;
  const double steps =
      ceil_div(ceil_div(s.K, 64), tile.splits) * (wgmma + (full ? 0.65 : 0.9) * taken_in * busy);
  const double outputs = tile.height * columns;
  const double store = outputs * (s.f32_out ? 4.0 / 18 : turns ? 1.0 / 32 : 0);
  const double finish = store + (s.gated || s.activated ? outputs * 2 / 16 : 0);
  const double next_us = kNextTileUs * (waves - 1);
  const double multiply_us = turns ? (waves * std::max(steps, (steps + finish) / 2) + finish) / kClocksPerUs
                                   : waves * (steps + finish) / kClocksPerUs + next_us;
  const double read = 2.0 * s.K * (double{1} * s.M + (s.gated ? 2.0 : 1.0) * s.N);
  const double written = (s.f32_out ? 4.0 : 2.0) * s.M * s.N;
  const double memory_us = (read + written) / kMemoryBytesPerUs + next_us;
  const double sums = 4.0 * tile.height * tile.width * (tile.splits - 1) / tile.splits;
  const double split_us = tile.splits == 1 ? 0 : (s.M <= tile.height ? 1.0 : 1.8) + sums / kPushedBytesPerUs;
  return kLaunchUs + split_us + std::pow(std::pow(multiply_us, 4) + std::pow(memory_us, 4), 0.25);
}

GemmTile best_gemm_tile(const GemmShape& s, GemmSchedule schedule) {
  GemmTile best = {256};
  double best_us = std::numeric_limits<double>::infinity();
  for (const GemmTile tile : gemm_tiles()) {
    if (tile.schedule != schedule || !gemm_tile_fits(s, tile)) continue;
    const double us = gemm_tile_us(s, tile);
    if (us < best_us) best = tile, best_us = us;
  }
  return best;
}

}  // namespace llamita
