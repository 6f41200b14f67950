// The model that cuts the Hopper GEMM into tiles: whatever it chooses must run, and where an even cut exists
// it must find it.
#include "ops/linear/tiles.h"

#include <gtest/gtest.h>

namespace llamita {
namespace {

constexpr int kSms = 132;

TEST(GemmTiles, TheChoiceFitsWhateverTheShape) {
  for (const int M : {1, 17, 128, 129, 256, 300, 512, 1000, 2048, 8192})
    for (const int N : {1, 40, 576, 3072, 28672, 128256})
      for (const int K : {8, 64, 576, 4096, 14336})
        for (const bool gated : {false, true})
          for (const bool f32 : {false, true})
            for (const int sms : {1, 2, 78, 114, 132}) {
              if (gated && f32) continue;
              const GemmShape shape{.M = M, .N = N, .K = K, .gated = gated, .f32_out = f32, .sm_count = sms};
              for (const GemmSchedule schedule : {GemmSchedule::cooperative, GemmSchedule::ping_pong}) {
                const GemmTile tile = best_gemm_tile(shape, schedule);
                EXPECT_TRUE(gemm_tile_fits(shape, tile) && tile.schedule == schedule)
                    << M << " x " << N << " x " << K << " gated " << gated << " f32 " << f32 << " on " << sms
                    << " schedule " << static_cast<int>(schedule);
              }
            }
}

TEST(GemmTiles, ClustersAreSmallAndHaveNoEmptyRows) {
  for (const GemmTile tile : gemm_tiles()) {
    EXPECT_LE(tile.splits * tile.rows, 8);
    for (const int M : {128, 256, 384, 512, 1000}) {
      if (!gemm_tile_fits({.M = M, .N = 3072, .K = 4096, .sm_count = kSms}, tile)) continue;
      EXPECT_EQ((M + tile.height - 1) / tile.height % tile.rows, 0)
          << M << " in clusters of " << tile.rows << " rows";
    }
  }
}

TEST(GemmTiles, FewTilesAreSplitAndManyAreNot) {
  const auto best = [](int M, int N, int K) {
    return best_gemm_tile({.M = M, .N = N, .K = K, .sm_count = kSms}, GemmSchedule::cooperative);
  };
  EXPECT_GT(best(256, 4096, 14336).splits, 1);
  EXPECT_EQ(best(8192, 28672, 4096).splits, 1);
  EXPECT_EQ(best(8192, 28672, 4096).width, 256);
}

GemmTile shared(GemmTile tile) {
  tile.schedule = GemmSchedule::cooperative;
  return tile;
}

// What follows a tile's multiplies runs under those of the next one in turns, and after them otherwise: where
// blocks have several tiles, the same activation in the same tile costs less in turns.
TEST(GemmTiles, TurnsHideALongerEpilogue) {
  for (const GemmTile tile : gemm_tiles()) {
    if (tile.schedule != GemmSchedule::ping_pong) continue;
    for (const int K : {768, 1024, 4096}) {
      const auto added = [&](GemmTile of) {
        const GemmShape plain{.M = 8192, .N = 4096, .K = K, .sm_count = kSms};
        GemmShape activated = plain;
        activated.activated = true;
        return gemm_tile_us(activated, of) - gemm_tile_us(plain, of);
      };
      EXPECT_LT(added(tile), added(shared(tile))) << tile.width << " / " << tile.rows << " K " << K;
    }
  }
}

// A tile's end is hidden under the next tile of the block, of which small problems have none: there a single
// consumer has the outputs of both to finish.
TEST(GemmTiles, TurnsNeedASecondTile) {
  for (const GemmTile tile : gemm_tiles()) {
    if (tile.schedule != GemmSchedule::ping_pong) continue;
    for (const bool f32 : {false, true}) {
      GemmShape shape{.M = 256, .N = 3072, .K = 4096, .f32_out = f32, .sm_count = kSms};
      EXPECT_GE(gemm_tile_us(shape, tile), gemm_tile_us(shape, shared(tile))) << tile.width;
      shape.M = 8192;
      EXPECT_LT(gemm_tile_us(shape, tile), gemm_tile_us(shape, shared(tile))) << tile.width;
    }
  }
}

}  // namespace
}  // namespace llamita
