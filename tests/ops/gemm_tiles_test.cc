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
              const auto schedules = {GemmSchedule::cooperative, GemmSchedule::ping_pong};
              EXPECT_TRUE(gemm_tile_fits(shape, best_gemm_tile(shape)))
                  << M << " x " << N << " x " << K << " gated " << gated << " f32 " << f32 << " on " << sms;
              for (const GemmSchedule schedule : schedules) {
                const GemmTile tile = best_gemm_tile(shape, schedule);
                EXPECT_TRUE(gemm_tile_fits(shape, tile) && tile.schedule == schedule &&
                            gemm_tile_us(shape, best_gemm_tile(shape)) <= gemm_tile_us(shape, tile))
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
  EXPECT_GT(best_gemm_tile({.M = 256, .N = 4096, .K = 14336, .sm_count = kSms}).splits, 1);
  EXPECT_EQ(best_gemm_tile({.M = 8192, .N = 28672, .K = 4096, .sm_count = kSms}).splits, 1);
  EXPECT_EQ(best_gemm_tile({.M = 8192, .N = 28672, .K = 4096, .sm_count = kSms}).width, 256);
}

// Taking turns hides what follows a tile's multiplies, which matters where that is long and K short.
TEST(GemmTiles, ShortKAndLongEpiloguesTakeTurns) {
  const GemmShape shape{.M = 8192, .N = 4096, .K = 1024, .activated = true, .sm_count = kSms};
  EXPECT_EQ(best_gemm_tile(shape).schedule, GemmSchedule::ping_pong);
  const GemmShape plain{.M = 8192, .N = 4096, .K = 14336, .sm_count = kSms};
  EXPECT_EQ(best_gemm_tile(plain).schedule, GemmSchedule::cooperative);
}

}  // namespace
}  // namespace llamita
