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
              const GemmShape shape{M, N, K, gated, f32, sms};
              EXPECT_TRUE(gemm_tile_fits(shape, best_gemm_tile(shape)))
                  << M << " x " << N << " x " << K << " gated " << gated << " f32 " << f32 << " on " << sms;
            }
}

TEST(GemmTiles, BlocksThatWaitForEachOtherAllFit) {
  for (const GemmTile tile : gemm_tiles())
    for (const int M : {256, 512, 1024})
      for (const int N : {512, 3072, 6144}) {
        const GemmShape shape{M, N, 4096, false, false, kSms};
        if (tile.splits == 1 || !gemm_tile_fits(shape, tile)) continue;
        const int tiles = (M + 127) / 128 * ((N + tile.width - 1) / tile.width);
        EXPECT_LE(tiles * tile.splits, kSms)
            << M << " x " << N << " in " << tile.width << " / " << tile.splits;
      }
}

TEST(GemmTiles, FewTilesAreSplitAndManyAreNot) {
  EXPECT_GT(best_gemm_tile({256, 4096, 14336, false, false, kSms}).splits, 1);
  EXPECT_EQ(best_gemm_tile({8192, 28672, 4096, false, false, kSms}).splits, 1);
  EXPECT_EQ(best_gemm_tile({8192, 28672, 4096, false, false, kSms}).width, 256);
}

TEST(GemmTiles, ExchangeHoldsEveryPartsSums) {
  const GemmShape shape{256, 3072, 4096, false, false, kSms};
  EXPECT_EQ(gemm_exchange_bytes(shape, {128, 1}), 0);
  EXPECT_EQ(gemm_exchange_bytes(shape, {128, 2}), int64_t{2} * 256 * 3072 * 4);
}

}  // namespace
}  // namespace llamita
