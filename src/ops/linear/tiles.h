// Which tile the Hopper GEMM cuts a problem into, by a model of what each choice costs. Plain arithmetic, the
// same in every build.
#pragma once

#include <cstdint>
#include <span>

namespace llamita {

// What the choice depends on.
struct GemmShape {
  int M, N, K;
  bool gated = false;    // two matrices of N rows each, one output
  bool f32_out = false;  // 4 bytes an output instead of 2
  int sm_count = 0;
};

// 128 rows x `width` columns of products, the K range divided among `splits` blocks.
struct GemmTile {
  int width = 0;
  int splits = 1;
};

// Row tiles go in pairs that share the loads of B, unless one of a pair would be empty.
int gemm_cluster(const GemmShape& shape);

// The tile's columns of output: half the products when gated.
int gemm_out_width(const GemmShape& shape, GemmTile tile);

// Every choice that fits: a split problem runs in one wave, for its blocks wait for each other.
bool gemm_tile_fits(const GemmShape& shape, GemmTile tile);
std::span<const GemmTile> gemm_tiles();

// Bytes of the sums that the blocks of a split problem exchange.
int64_t gemm_exchange_bytes(const GemmShape& shape, GemmTile tile);

// Microseconds that the model expects.
double gemm_tile_us(const GemmShape& shape, GemmTile tile);
GemmTile best_gemm_tile(const GemmShape& shape);

}  // namespace llamita
