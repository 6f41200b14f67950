// Which tile the Hopper GEMM cuts a problem into, by a model of what each choice costs. Plain arithmetic, the
// same in every build.
#pragma once

#include <cstdint>
#include <span>

namespace llamita {

// What the choice depends on.
struct GemmShape {
  int M, N, K;
  bool gated = false;      // two matrices of N rows each, one output
  bool activated = false;  // one matrix, an activation of its output
  bool f32_out = false;    // 4 bytes an output instead of 2
  int sm_count = 0;
};

// How the two consumers of a block work: on 64 rows each of one tile, or on a tile each, taking turns at the
// tensor cores, so that one finishes its outputs while the other multiplies.
enum class GemmSchedule : uint8_t { cooperative, ping_pong };

// `height` rows (128, or 64 where K is whole) x `width` columns of products. A cluster has one or two
// neighbouring row tiles, which share the loads of B, and divides their K among `splits` blocks each.
struct GemmTile {
  int width = 0;
  int splits = 1;
  int rows = 1;
  int height = 128;
  GemmSchedule schedule = GemmSchedule::cooperative;

  bool operator==(const GemmTile&) const = default;
};

// The tile's columns of output: half the products when gated.
int gemm_out_width(const GemmShape& shape, GemmTile tile);

// A choice fits when no row tile is empty; K is divided only where all blocks run at one time.
bool gemm_tile_fits(const GemmShape& shape, GemmTile tile);
std::span<const GemmTile> gemm_tiles();

// Microseconds that the model expects.
double gemm_tile_us(const GemmShape& shape, GemmTile tile);
// The one of a schedule that the model expects least of; of either schedule one fits every shape.
GemmTile best_gemm_tile(const GemmShape& shape, GemmSchedule schedule);

}  // namespace llamita
