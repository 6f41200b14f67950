// A warp's two products of attention and the step between them: which row, key and element each fragment
// holds, in every panel of a head. Small whole numbers make products exact, so any misplaced element shows.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>

#include "hw/cuda/device/mma_attention.cuh"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using MmaAttention = test::GpuTest;

constexpr int kQRows = 48, kFirst = 16, kKeys = 32;

template <class Element>
__device__ Element whole(int value) {
  if constexpr (std::is_same_v<Element, __half>)
    return __int2half_rn(value);
  else
    return __int2bfloat16_rn(value);
}

// A tile (rows, kDim) in panels of 64 columns, as kernels copy it.
template <class Element, int kDim>
__device__ void place(uint8_t* tile, const int* values, int rows) {
  for (int i = threadIdx.x; i < rows * kDim; i += 32) {
    const int row = i / kDim, column = i % kDim;
    uint8_t* panel = tile + column / 64 * rows * device::kSwizzleRowBytes;
    *reinterpret_cast<Element*>(panel + device::swizzled_byte(row, column % 64 * 2)) =
        whole<Element>(values[i]);
  }
}

// Row and column of element e of fragment (m, j).
__device__ int row_of(int m, int e, int lane) { return 16 * m + lane / 4 + e / 2 * 8; }
__device__ int column_of(int j, int e, int lane) { return 8 * j + lane % 4 * 2 + e % 2; }

// Rows 16 .. of a warp's kBlocks blocks: scores(16 kBlocks, 32) = q k^T; out(16 kBlocks, kDim) = 1 + weights
// v.
template <class Element, int kDim, int kBlocks>
__global__ void both_products(const int* q, const int* k, const int* v, const int* weights, float* scores,
                              float* out) {
  constexpr int kPanels = (kDim + 63) / 64;
  __shared__ __align__(1024) uint8_t q_tile[kPanels * kQRows * 128];
  __shared__ __align__(1024) uint8_t kv_tile[kPanels * kKeys * 128];
  const int lane = threadIdx.x;
  place<Element, kDim>(q_tile, q, kQRows);
  place<Element, kDim>(kv_tile, k, kKeys);
  __syncwarp();
  float s[kBlocks][kKeys / 8][4];
  device::warp_scores<Element, kBlocks, kQRows, kKeys, kDim>(s, q_tile, kv_tile, kFirst, lane);
  __syncwarp();
  place<Element, kDim>(kv_tile, v, kKeys);
  __syncwarp();
  float o[kBlocks][kDim / 8][4];
  for (int m = 0; m < kBlocks; ++m) {
    for (int j = 0; j < kKeys / 8; ++j)
      for (int e = 0; e < 4; ++e) {
        const int at = row_of(m, e, lane) * kKeys + column_of(j, e, lane);
        scores[at] = s[m][j][e];
        s[m][j][e] = static_cast<float>(weights[at]);
      }
    for (int j = 0; j < kDim / 8; ++j)
      for (int e = 0; e < 4; ++e) o[m][j][e] = 1;
  }
  device::warp_values<Element, kBlocks, kKeys, kDim>(o, s, kv_tile, lane);
  for (int m = 0; m < kBlocks; ++m)
    for (int j = 0; j < kDim / 8; ++j)
      for (int e = 0; e < 4; ++e) out[row_of(m, e, lane) * kDim + column_of(j, e, lane)] = o[m][j][e];
}

std::vector<int> whole_numbers(size_t count, uint32_t seed) {
  std::vector<int> values(count);
  for (int& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<int>(seed >> 24) % 9 - 4;
  }
  return values;
}

template <class Element, int kDim, int kBlocks = 2>
void expect_exact_products() {
  constexpr int kRows = 16 * kBlocks;
  const std::vector<int> q = whole_numbers(kQRows * kDim, 1), k = whole_numbers(kKeys * kDim, 2),
                         v = whole_numbers(kKeys * kDim, 3), w = whole_numbers(kRows * kKeys, 4);
  const DeviceArray<int> q_there(q), k_there(k), v_there(v), w_there(w);
  const DeviceArray<float> scores(kRows * kKeys), out(kRows * kDim);
  cuda::launch(both_products<Element, kDim, kBlocks>, {.grid = dim3(1), .block = dim3(32)}, q_there.data(),
               k_there.data(), v_there.data(), w_there.data(), scores.data(), out.data());
  const std::vector<float> s = scores.read(), o = out.read();
  for (int row = 0; row < kRows; ++row) {
    for (int key = 0; key < kKeys; ++key) {
      int want = 0;
      for (int d = 0; d < kDim; ++d) want += q[(kFirst + row) * kDim + d] * k[key * kDim + d];
      ASSERT_EQ(s[row * kKeys + key], want) << "D " << kDim << ", row " << row << ", key " << key;
    }
    for (int d = 0; d < kDim; ++d) {
      int want = 1;
      for (int key = 0; key < kKeys; ++key) want += w[row * kKeys + key] * v[key * kDim + d];
      ASSERT_EQ(o[row * kDim + d], want) << "D " << kDim << ", row " << row << ", element " << d;
    }
  }
}

TEST_F(MmaAttention, BothProductsAreExactAtEveryHeadDim) {
  expect_exact_products<__nv_bfloat16, 64>();
  expect_exact_products<__nv_bfloat16, 80>();
  expect_exact_products<__half, 96>();
  expect_exact_products<__half, 128>();
  expect_exact_products<__nv_bfloat16, 256, 1>();  // as many sums as registers hold
}

constexpr int kBlocks = 2, kRows = 16 * kBlocks;

// Two tiles of scores (2, 32, 32); before the second, sums `before` (32) in every element of a row.
__global__ void two_steps(const float* scores, const float* before, float scale_log2, float* weights,
                          float* sums) {
  constexpr int kOut = 3;
  const int lane = threadIdx.x;
  device::RowState state[kBlocks];
  float s[kBlocks][kKeys / 8][4], o[kBlocks][kOut][4] = {};
  for (int tile = 0; tile < 2; ++tile) {
    for (int m = 0; m < kBlocks; ++m) {
      for (int j = 0; j < kKeys / 8; ++j)
        for (int e = 0; e < 4; ++e)
          s[m][j][e] = scores[(tile * kRows + row_of(m, e, lane)) * kKeys + column_of(j, e, lane)];
      if (tile == 1)
        for (int j = 0; j < kOut; ++j)
          for (int e = 0; e < 4; ++e) o[m][j][e] = before[row_of(m, e, lane)];
    }
    device::online_softmax_fragments(s, o, state, scale_log2);
  }
  for (int m = 0; m < kBlocks; ++m) {
    for (int j = 0; j < kKeys / 8; ++j)
      for (int e = 0; e < 4; ++e) weights[row_of(m, e, lane) * kKeys + column_of(j, e, lane)] = s[m][j][e];
    for (int j = 0; j < kOut; ++j)
      for (int e = 0; e < 4; ++e) sums[row_of(m, e, lane) * 8 * kOut + column_of(j, e, lane)] = o[m][j][e];
  }
}

TEST_F(MmaAttention, TheStepBetweenThemCorrectsWhatWasSummed) {
  constexpr float kScale = 0.4f;
  std::vector<float> scores(2 * kRows * kKeys), before(kRows);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = 6 * std::sin(1.3f * static_cast<float>(i));
  for (int row = 0; row < kRows; ++row) {
    before[row] = static_cast<float>(row + 1);
    scores[(row % 2 * kRows + row) * kKeys + row % kKeys] =
        9;  // the maximum, in the first tile or the second
  }
  const DeviceArray<float> scores_there(scores), before_there(before), weights(kRows * kKeys),
      sums(kRows * 24);
  cuda::launch(two_steps, {.grid = dim3(1), .block = dim3(32)}, scores_there.data(), before_there.data(),
               kScale * device::kLog2e, weights.data(), sums.data());
  const std::vector<float> w = weights.read(), o = sums.read();
  for (int row = 0; row < kRows; ++row) {
    const float* first = scores.data() + row * kKeys;
    const float* second = scores.data() + (kRows + row) * kKeys;
    const double earlier = *std::max_element(first, first + kKeys);
    for (int key = 0; key < kKeys; ++key)
      ASSERT_NEAR(w[row * kKeys + key], std::exp(kScale * (second[key] - 9.0)), 2e-6) << row << ", " << key;
    const double want = before[row] * std::exp(kScale * (earlier - 9));
    for (int d = 0; d < 24; ++d) ASSERT_NEAR(o[row * 24 + d] / want, 1, 2e-6) << row << ", " << d;
  }
}

__global__ void weigh(const float* highest, const float* common, float* weights) {
  weights[threadIdx.x] = device::weight_of(highest[threadIdx.x], common[threadIdx.x]);
}

TEST_F(MmaAttention, SumsOverNoKeyWeighNothing) {
  const DeviceArray<float> highest(std::vector<float>{3, -2, -INFINITY, -INFINITY}),
      common(std::vector<float>{3, 1, 5, -INFINITY}), weights(4);
  cuda::launch(weigh, {.grid = dim3(1), .block = dim3(4)}, highest.data(), common.data(), weights.data());
  EXPECT_EQ(weights.read(), (std::vector<float>{1, 0.125f, 0, 0}));
}

}  // namespace
}  // namespace llamita
