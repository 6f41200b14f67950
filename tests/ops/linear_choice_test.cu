// What the table of `linear` chooses on an H100 for dense weights: shapes alone, so that no card is needed.
#include <gtest/gtest.h>

#include "ops/linear/linear.h"

namespace llamita {
namespace {

std::string_view chosen(int64_t M, int64_t N, int64_t K) {
  Caps caps;
  caps.device = DeviceKind::cuda;
  caps.activation = DType::bf16;
  caps.arch = 90;
  caps.sm_count = 132;
  const Device device{DeviceKind::cuda, 0};
  quant::Weight weight;
  weight.cols = K;
  weight.parts.push_back({.name = "w", .format = DType::bf16, .rows = N, .storage = {}});
  LinearArgs args;
  args.x = Tensor(nullptr, DType::bf16, {M, K}, device);
  args.weight = &weight;
  args.out = Tensor(nullptr, DType::bf16, {M, N}, device);
  return best_variant(linear_op(), args, caps, "")->name;
}

struct Matrix {
  int64_t N, K;
};

// QKV, O, gate and up, down and the head of 1B, 3B and 8B.
constexpr Matrix kMatrices[] = {{3072, 2048}, {2048, 2048}, {16384, 2048}, {2048, 8192}, {128256, 2048},
                                {5120, 3072}, {3072, 3072}, {16384, 3072}, {3072, 8192}, {128256, 3072},
                                {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};

TEST(LinearChoice, FewTokensGoToTheSkinnyProduct) {
  for (const auto& [N, K] : kMatrices)
    for (int64_t M = 1; M <= 16; ++M)
      EXPECT_EQ(chosen(M, N, K), "skinny_sm90") << M << " x " << N << " x " << K;
}

// From 32 tokens on the GEMM takes what fills its tiles; where there are few, K has to be cut.
TEST(LinearChoice, LargeMatricesGoToTheGemmFromThirtyTwoTokensOn) {
  for (const int64_t M : {32, 48, 64}) {
    EXPECT_EQ(chosen(M, 28672, 4096), "gemm_sm90") << M;
    EXPECT_EQ(chosen(M, 4096, 4096), "skinny_sm90") << M;
  }
  for (const auto& [N, K] : kMatrices) EXPECT_NE(chosen(256, N, K), "skinny_sm90") << N << " x " << K;
}

}  // namespace
}  // namespace llamita
