// The softmax of fragments against fp64: which thread holds which score, what a mask hides, what follows a
// new maximum.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>

#include "hw/cuda/device/mma_attention.cuh"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using Softmax = test::GpuTest;

__global__ void exponentials(const float* x, float* y) { y[threadIdx.x] = ptx::exp2_approx(x[threadIdx.x]); }

TEST_F(Softmax, Exp2IsAsNearAsItsCommentSays) {
  std::vector<float> x(256);
  for (int i = 0; i < 256; ++i) x[i] = -100.0f + 0.77f * static_cast<float>(i);
  x[0] = -INFINITY;
  const DeviceArray<float> from(x), to(256);
  cuda::launch(exponentials, {.grid = dim3(1), .block = dim3(256)}, from.data(), to.data());
  const std::vector<float> y = to.read();
  EXPECT_EQ(y[0], 0.0f);
  for (int i = 1; i < 256; ++i) EXPECT_NEAR(y[i] / std::exp2(double{x[i]}), 1, 0x1p-22) << x[i];
}

__global__ void larger(const float* x, float* y) {
  const unsigned a = threadIdx.x / 4, b = threadIdx.x % 4;
  y[threadIdx.x] = ptx::max_or_nan(x[a], x[b]);
}

TEST_F(Softmax, TheLargerOfTwoIsNanWhereOneIs) {
  const std::vector<float> x = {-INFINITY, -1.0f, 2.0f, NAN};
  const DeviceArray<float> from(x), to(16);
  cuda::launch(larger, {.grid = dim3(1), .block = dim3(16)}, from.data(), to.data());
  const std::vector<float> y = to.read();
  for (size_t i = 0; i < 16; ++i) {
    if (i / 4 == 3 || i % 4 == 3)
      EXPECT_TRUE(std::isnan(y[i])) << i;
    else
      EXPECT_EQ(y[i], x[std::max(i / 4, i % 4)]) << i;
  }
}

__global__ void over_quads(float* highest, float* sum) {
  const auto x = static_cast<float>(threadIdx.x);
  highest[threadIdx.x] = device::quad_max(x);
  sum[threadIdx.x] = device::quad_sum(x);
}

TEST_F(Softmax, AQuadIsFourNeighbours) {
  const DeviceArray<float> highest(32), sum(32);
  cuda::launch(over_quads, {.grid = dim3(1), .block = dim3(32)}, highest.data(), sum.data());
  const std::vector<float> h = highest.read(), s = sum.read();
  for (int i = 0; i < 32; ++i) {
    const int first = i / 4 * 4;
    EXPECT_EQ(h[i], first + 3);
    EXPECT_EQ(s[i], 4 * first + 6);
  }
}

__global__ void columns(int first, uint32_t* bits) {
  bits[threadIdx.x] = device::columns_below(first + static_cast<int>(threadIdx.x));
}

TEST_F(Softmax, TheColumnsBelowAnEndAreBits) {
  constexpr int kFirst = -10;  // to 149, over both edges of a row of 128 columns
  const DeviceArray<uint32_t> bits(160);
  cuda::launch(columns, {.grid = dim3(1), .block = dim3(160)}, kFirst, bits.data());
  const std::vector<uint32_t> got = bits.read();
  for (int i = 0; i < 160; ++i) {
    uint32_t want = 0;
    for (int bit = 0; bit < 32; ++bit)
      if (bit / 2 * 8 + bit % 2 < kFirst + i) want |= 1u << bit;
    ASSERT_EQ(got[i], want) << kFirst + i;
  }
}

constexpr int kRows = 16, kTile = 32, kTiles = 5, kKeys = kTile * kTiles;

// A warp's 16 rows over tiles of 32 keys. Row r sees keys `begin` + r .. kKeys - 1 - r. Leaves the weights of
// every tile as they were when it came and what each correction was, and the sums.
template <int kSlack>
__global__ void online(const float* scores, int begin, float scale_log2, float* weights, float* corrections,
                       float* highest, float* totals) {
  const int lane = threadIdx.x, first = lane / 4;
  device::RowState state;
  for (int tile = 0; tile < kTiles; ++tile) {
    float s[kTile / 2], correction[2];
    const auto key = [&](int i) { return kTile * tile + i / 4 * 8 + lane % 4 * 2 + i % 2; };
    const auto row = [&](int i) { return first + i % 4 / 2 * 8; };
#pragma unroll
    for (int i = 0; i < kTile / 2; ++i) s[i] = scores[row(i) * kKeys + key(i)];
    const int from = kTile * tile + lane % 4 * 2;  // the thread's first column
    const int begins[2] = {begin + first - from, begin + first + 8 - from};
    const int ends[2] = {kKeys - first - from, kKeys - first - 8 - from};
    device::mask_scores(s, begins, ends);
    device::online_softmax<kSlack>(s, state, correction, scale_log2);
#pragma unroll
    for (int i = 0; i < kTile / 2; ++i) weights[row(i) * kKeys + key(i)] = s[i];
    for (int half = 0; half < 2; ++half) corrections[(first + 8 * half) * kTiles + tile] = correction[half];
  }
  for (int half = 0; half < 2; ++half) {
    highest[first + 8 * half] = state.highest[half];
    totals[first + 8 * half] = device::quad_sum(state.total[half]);
  }
}

template <int kSlack>
void expect_softmax(float steepness) {
  constexpr float kScale = 0.3f;
  constexpr int kBegin = 40;  // the first tile is hidden whole, a part of the second
  std::vector<float> scores(kRows * kKeys);
  for (int i = 0; i < kRows * kKeys; ++i)
    scores[i] = 8 * std::sin(1.7f * static_cast<float>(i)) + steepness * static_cast<float>(i % kKeys);
  const DeviceArray<float> from(scores), weights(kRows * kKeys), corrections(kRows * kTiles), highest(kRows),
      totals(kRows);
  cuda::launch(online<kSlack>, {.grid = dim3(1), .block = dim3(32)}, from.data(), kBegin,
               kScale * device::kLog2e, weights.data(), corrections.data(), highest.data(), totals.data());
  const auto w = weights.read(), c = corrections.read(), h = highest.read(), t = totals.read();
  for (int r = 0; r < kRows; ++r) {
    double sum = 0, most = -INFINITY;
    const auto seen = [&](int k) { return k >= kBegin + r && k < kKeys - r; };
    for (int k = 0; k < kKeys; ++k)
      if (seen(k)) most = std::max(most, double{scores[r * kKeys + k]});
    for (int k = 0; k < kKeys; ++k)
      if (seen(k)) sum += std::exp(kScale * (scores[r * kKeys + k] - most));
    EXPECT_LE(h[r], most);
    EXPECT_LE((most - h[r]) * kScale * device::kLog2e, kSlack + 1e-3);
    // A weight, corrected for every later tile, is its part of the whole sum.
    for (int k = 0; k < kKeys; ++k) {
      double weight = w[r * kKeys + k];
      for (int later = k / kTile + 1; later < kTiles; ++later) weight *= c[r * kTiles + later];
      const double want = seen(k) ? std::exp(kScale * (scores[r * kKeys + k] - most)) / sum : 0;
      ASSERT_NEAR(weight / t[r], want, 2e-6) << "row " << r << ", key " << k;
    }
  }
}

TEST_F(Softmax, TilesAddUpToTheWhole) {
  for (const float steepness : {-0.5f, 0.0f, 0.5f}) {  // the maximum comes first, anywhere, last
    expect_softmax<0>(steepness);
    expect_softmax<8>(steepness);
  }
}

__global__ void one_tile(const float* scores, float* weights, float* highest, float* totals) {
  const int lane = threadIdx.x;
  float s[kTile / 8][4];
  for (int j = 0; j < kTile / 8; ++j)
    for (int i = 0; i < 4; ++i)
      s[j][i] = scores[(lane / 4 + i / 2 * 8) * kTile + 8 * j + lane % 4 * 2 + i % 2];
  for (int half = 0; half < 2; ++half) {
    float total;
    const float most = device::tile_softmax(s, half, device::kLog2e, total);
    highest[lane / 4 + 8 * half] = most;
    totals[lane / 4 + 8 * half] = total;
  }
  for (int j = 0; j < kTile / 8; ++j)
    for (int i = 0; i < 4; ++i)
      weights[(lane / 4 + i / 2 * 8) * kTile + 8 * j + lane % 4 * 2 + i % 2] = s[j][i];
}

TEST_F(Softmax, ATileAlone) {
  std::vector<float> scores(kRows * kTile);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = 5 * std::sin(2.3f * static_cast<float>(i));
  for (int k = 0; k < kTile; ++k) scores[3 * kTile + k] = -INFINITY;  // a row that sees no key
  const DeviceArray<float> from(scores), weights(kRows * kTile), highest(kRows), totals(kRows);
  cuda::launch(one_tile, {.grid = dim3(1), .block = dim3(32)}, from.data(), weights.data(), highest.data(),
               totals.data());
  const auto w = weights.read(), h = highest.read(), t = totals.read();
  for (int r = 0; r < kRows; ++r) {
    const auto row = scores.begin() + r * kTile;
    const double most = *std::max_element(row, row + kTile);
    double sum = 0;
    for (int k = 0; k < kTile; ++k) {
      const double want = r == 3 ? 0 : std::exp(row[k] - most);
      ASSERT_NEAR(w[r * kTile + k], want, 2e-6);
      sum += want;
    }
    EXPECT_NEAR(t[r], sum, 1e-4);
    if (r == 3)
      EXPECT_EQ(h[r], -INFINITY);
    else
      EXPECT_NEAR(h[r], most * device::kLog2e, 1e-5);
  }
  EXPECT_EQ(device::kLog2e, static_cast<float>(1 / std::log(2.0)));
}

__global__ void pack(uint32_t* out) {
  float d[16];
  for (int i = 0; i < 16; ++i) d[i] = static_cast<float>(16 * threadIdx.x + i % 16) / 4;
  uint32_t a[2][4];
  device::pack_fragments<__nv_bfloat16>(a, d);
  for (int i = 0; i < 8; ++i) out[threadIdx.x * 8 + i] = a[i / 4][i % 4];
}

TEST_F(Softmax, AccumulatorsBecomeFragmentsInTheirOrder) {
  const DeviceArray<uint32_t> out(32 * 8);
  cuda::launch(pack, {.grid = dim3(1), .block = dim3(32)}, out.data());
  const std::vector<uint32_t> got = out.read();
  const auto bits = [](float x) { return __bfloat16_as_ushort(__float2bfloat16(x)); };
  for (uint32_t i = 0; i < 32 * 8; ++i) {
    const float low = static_cast<float>(2 * i) / 4;
    EXPECT_EQ(got[i], bits(low) | uint32_t{bits(low + 0.25f)} << 16) << i;
  }
}

// Pairs that lie between two numbers of the type, and on one.
template <class Element>
__global__ void pack_each(const float* x, uint32_t* out) {
  out[threadIdx.x] = device::pack_pair<Element>(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
}

TEST_F(Softmax, APairIsRoundedWithTheFirstInTheLowHalf) {
  std::vector<float> x(256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = (i % 2 == 0 ? 1.0f : -3.0f) + static_cast<float>(i) / 4096;
  const DeviceArray<float> from(x);
  const DeviceArray<uint32_t> bf16(128), f16(128);
  const auto* source = static_cast<const float*>(from.data());
  cuda::launch(pack_each<__nv_bfloat16>, {.grid = dim3(1), .block = dim3(128)}, source, bf16.data());
  cuda::launch(pack_each<__half>, {.grid = dim3(1), .block = dim3(128)}, source, f16.data());
  const auto b = bf16.read(), h = f16.read();
  for (size_t i = 0; i < 128; ++i) {
    const auto bits = [&](auto round) { return round(x[2 * i]) | uint32_t{round(x[2 * i + 1])} << 16; };
    ASSERT_EQ(b[i], bits([](float v) { return __bfloat16_as_ushort(__float2bfloat16(v)); })) << i;
    ASSERT_EQ(h[i], bits([](float v) { return __half_as_ushort(__float2half(v)); })) << i;
  }
}

}  // namespace
}  // namespace llamita
