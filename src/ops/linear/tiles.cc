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
  for (const int width : {128, 192})
    for (const int rows : {2, 1}) tiles[count++] = {width, 1, rows, 128, GemmSchedule::ping_pong};
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
  const bool turns = tile.schedule == GemmSchedule::ping_pong;
  if (s.gated && (tile.width % 64 != 0 || tile.splits > 1 || (tile.height != 128 && !turns))) return false;
  if (tile.splits > 1 && tile.height != 128) return false;
  if (ceil_div(s.M, tile.height) % tile.rows != 0) return false;
  // Parts of unpaired rows load too much for L2 where the card is full: 512 x 4096 x 4096 took 35 us, not 30.
  if (tile.splits > 1 && tile.rows == 1 && s.M > 2 * tile.height &&
      units(s, tile) * tile.splits > 0.75 * s.sm_count)
    return false;
  return tile.splits == 1 || (ceil_div(s.K, 64) >= 4 * tile.splits && units(s, tile) <= clusters(s, tile));
}

std::span<const GemmTile> gemm_tiles() { return std::span(kTiles.first).first(kTiles.second); }

// Fitted to 186 times of 40 shapes of the grid on an H100, M = 128 to 2048 (bench_gemm --shapes tiles;
// docs/performance/kernels.md): within 4 % in the mean, and every choice within 2 % of the best of those
// times; the limits of memory and what is said of one row of tiles to 363 times at M = 32 to 128.
// - a launch costs 1.7 us, divided K 1.8 more (1.0 in one row of tiles) and its sums, pushed at 35 bytes a
//   nanosecond and block;
// - a step of 64 along K takes wgmma 4.1 clocks a column, no less than 428; half the rows 145 and 1.5
//   a column;
// - what its blocks take in from L2 slows it as more of the card works: a column of B that two rows share
//   counts half;
// - memory gives 3.06 TB/s, and waits a microsecond where a block goes on to its next tile; multiplies
//   and memory hide behind each other but where both need the same time;
// - fp32 outputs are stored before the next tile begins, 16-bit ones under it; an activation takes two steps
//   of the special function units, 16 a clock, and nothing multiplies meanwhile;
// - consumers that take turns multiply as fast and finish a tile under the next one, with half the warps;
//   only the last is waited for. Not fitted yet: what it costs is taken from the others.
double gemm_tile_us(const GemmShape& s, GemmTile tile) {
  constexpr double kLaunchUs = 1.7, kPushedBytesPerUs = 35e3, kNextTileUs = 1;
  constexpr double kMemoryBytesPerUs = 3.06e6, kClocksPerUs = 1800;
  const bool turns = tile.schedule == GemmSchedule::ping_pong, full = tile.height == 128 || turns;
  const int columns = gemm_out_width(s, tile), work = units(s, tile), blocks = tile.rows * tile.splits;
  const double waves = ceil_div(work, clusters(s, tile));
  const double busy = work * blocks / (waves * std::max(s.sm_count, 1));
  const double wgmma = full ? std::max(4.1 * tile.width * tile.height / 128, 428.0) : 145 + 1.5 * tile.width;
  const double loads = (full ? 0.82 : 1.1) * (tile.height + tile.width / tile.rows) * busy;
  const double activation = s.gated || s.activated ? 2.0 * tile.height * columns / 16 : 0;
  const double steps = ceil_div(ceil_div(s.K, 64), tile.splits) * (wgmma + loads);
  double clocks = 0;
  if (turns) {
    const double store = 600 + (s.f32_out ? 12.0 : 6.0) * columns * tile.height / 64;
    const double finish = store + activation;
    clocks = waves * std::max(steps, (steps + finish) / 2) + finish;
  } else {
    clocks = waves * (steps + (s.f32_out ? 600 + 12.0 * columns : 50) + activation);
  }
  const double multiply_us = clocks / kClocksPerUs;
  const double read = 2.0 * s.K * (double{1} * s.M + (s.gated ? 2.0 : 1.0) * s.N);
  const double written = (s.f32_out ? 4.0 : 2.0) * s.M * s.N;
  const double memory_us = (read + written) / kMemoryBytesPerUs + kNextTileUs * (waves - 1);
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
