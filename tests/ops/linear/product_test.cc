// CpuProduct: which kernels a variant is asked for, and what is prepared for them. The kernels here are
// scalar, so that what only AVX-512 machines choose is held everywhere.
#include "ops/linear/product.h"

#include "ops/op_test_support.h"

namespace llamita {
namespace {

using test::Machine;
using test::Matrix;

constexpr int64_t kK = 50;  // no whole groups of 32

void round_row(const float* x, int64_t K, uint16_t* to) {
  for (int64_t k = 0; k < (K + 31) / 32 * 32; ++k) to[k] = k < K ? to_bf16(x[k]).bits : 0;
}

void multiply_bf16(const Bf16Job& job, int64_t begin, int64_t end) {
  for (int64_t t = 0; t < job.plain.T; ++t) {
    for (int64_t n = begin; n < end; ++n) {
      const auto* row = reinterpret_cast<const bf16*>(job.plain.weight + n * job.plain.weight_stride);
      float sum = 0;
      for (int64_t k = 0; k < job.plain.K; ++k) {
        sum += to_float(row[k]) * to_float(bf16{job.x[t * job.x_stride + k]});
      }
      job.plain.out[t * job.plain.out_stride + n] = sum;
    }
  }
}

// x in the tiles of kernels.h, of 4 lanes.
void multiply_tiles(const LinearJob& job, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = 4;
  for (int64_t t = 0; t < job.T; ++t) {
    for (int64_t n = begin; n < end; ++n) {
      const auto* row = reinterpret_cast<const bf16*>(job.weight + n * job.weight_stride);
      float sum = 0;
      for (int64_t k = 0; k < job.K; ++k) {
        const int64_t chunk = k / kPanelChunk * kPanelChunk, within = k - chunk;
        const float* tile = job.x_tiles + panel_tile(job.K, job.T, t, chunk);
        sum += to_float(row[k]) *
               tile[(within / kLanes * kPanelTokens + t % kPanelTokens) * kLanes + within % kLanes];
      }
      job.out[t * job.out_stride + n] = sum;
    }
  }
}

void expect_product(const CpuKernels& kernels, int64_t T, int64_t K, bool rounded) {
  const quant::Weight weight = test::random_weight(DType::bf16, 6, K, 1);
  Matrix x(T, K), out(T, 6);
  test::fill_normal(x, 2);
  const LinearArgs args{x.tensor(), &weight, {}, {}, out.tensor()};
  Machine machine(1, cpu::Isa::generic, static_cast<size_t>(product_scratch_bytes(args, kernels)) + 64);
  run_product(args, kernels, machine.context());
  const auto* rows = static_cast<const bf16*>(weight.parts[0].storage.data());
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t n = 0; n < 6; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < K; ++k) {
        const float value = x.row(t)[k];
        sum += to_float(rows[n * K + k]) * (rounded ? to_float(to_bf16(value)) : value);
      }
      EXPECT_EQ(out.row(t)[n], sum) << "token " << t << " of " << T << ", row " << n;
    }
  }
}

TEST(CpuProduct, KernelsForBf16GetEveryTokenInBf16) {
  for (const int64_t T : {1, 7, 8, 17}) {
    expect_product(
        {.unit = 4, .plain_tile_lanes = 16, .bf16_round_row = round_row, .bf16_multiply = multiply_bf16}, T,
        kK, true);
  }
}

TEST(CpuProduct, KernelsForTilesGetThemWholeAtEveryLength) {
  for (const int64_t T : {1, 4, 7, 8, 17}) {
    for (const int64_t K : {kK, int64_t{256}, int64_t{700}}) {
      expect_product({4, multiply_tiles, multiply_tiles, 4}, T, K, false);
    }
  }
}

}  // namespace
}  // namespace llamita
