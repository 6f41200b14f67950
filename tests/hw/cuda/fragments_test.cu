// Where each element of a fragment comes from: ldmatrix, mma.sync, cp.async and the swizzle, on any card from
// sm_80 on.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/ptx/cache.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using Fragments = test::GpuTest;

TEST(Swizzle, ColumnsOfPiecesLieInEightBankGroups) {
  for (uint32_t piece = 0; piece < 8; ++piece) {
    uint32_t groups = 0;
    for (uint32_t row = 8; row < 16; ++row) groups |= 1u << (device::swizzled_piece(row, piece) / 16 % 8);
    EXPECT_EQ(groups, 0xFFu) << piece;
  }
  std::vector<int> seen(64 * 128);
  for (uint32_t row = 0; row < 64; ++row)
    for (uint32_t byte = 0; byte < 128; ++byte) ++seen[device::swizzled_byte(row, byte)];
  EXPECT_EQ(seen, std::vector<int>(64 * 128, 1));
}

// A 32 x 8 table of 16-bit numbers, row-major: element (row, column) is 8 row + column.
__global__ void read_tiles(uint32_t* plain, uint32_t* transposed) {
  __shared__ __align__(16) uint16_t table[32 * 8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) table[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, &table[lane * 8]);
  for (int t = 0; t < 4; ++t) plain[lane * 4 + t] = r[t];
  ptx::ldmatrix_x4_trans(r, &table[lane * 8]);
  for (int t = 0; t < 4; ++t) transposed[lane * 4 + t] = r[t];
}

TEST_F(Fragments, LdmatrixHandsOutTilesByTheDocumentedPattern) {
  const DeviceArray<uint32_t> plain(128), transposed(128);
  cuda::launch(read_tiles, {.grid = dim3(1), .block = dim3(32)}, plain.data(), transposed.data());
  const auto p = plain.read(), t = transposed.read();
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t tile = 0; tile < 4; ++tile) {
      const uint32_t row = lane / 4, column = lane % 4 * 2;
      const uint32_t first = (tile * 8 + row) * 8 + column;
      EXPECT_EQ(p[lane * 4 + tile], first | (first + 1) << 16);
      const uint32_t down = (tile * 8 + column) * 8 + row;  // rows 2 (lane % 4), + 1 of column lane / 4
      EXPECT_EQ(t[lane * 4 + tile], down | (down + 8) << 16);
    }
}

template <class Element>
__device__ Element small(int value);
template <>
__device__ __nv_bfloat16 small<__nv_bfloat16>(int value) {
  return __int2bfloat16_rn(value);
}
template <>
__device__ __half small<__half>(int value) {
  return __int2half_rn(value);
}

// D(16, 16) = A(16, 64) B(16, 64)^T out of swizzled tiles, with the loaders that kernels use.
template <class Element>
__global__ void multiply(const int* a, const int* b, float* d) {
  __shared__ __align__(1024) uint8_t tile_a[16 * 128];
  __shared__ __align__(1024) uint8_t tile_b[16 * 128];
  const int lane = threadIdx.x;
  for (int i = lane; i < 16 * 64; i += 32) {
    *reinterpret_cast<Element*>(tile_a + device::swizzled_byte(i / 64, i % 64 * 2)) = small<Element>(a[i]);
    *reinterpret_cast<Element*>(tile_b + device::swizzled_byte(i / 64, i % 64 * 2)) = small<Element>(b[i]);
  }
  __syncwarp();
  float sum[2][4] = {};
  for (int k16 = 0; k16 < 4; ++k16) {
    uint32_t left[4], right[4];
    device::load_a_fragment(left, tile_a, 0, k16, lane);
    device::load_b_fragments(right, tile_b, 0, k16, lane);
    ptx::mma_m16n8k16<Element>(sum[0], left, right[0], right[1]);
    ptx::mma_m16n8k16<Element>(sum[1], left, right[2], right[3]);
  }
  for (int j = 0; j < 2; ++j)
    for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 16 + j * 8 + lane % 4 * 2 + i % 2] = sum[j][i];
}

// Small whole numbers: every product and sum is exact, so any misplaced element shows.
std::vector<int> whole_numbers(size_t count, uint32_t seed) {
  std::vector<int> values(count);
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    values[i] = static_cast<int>(seed >> 24) % 9 - 4;
  }
  return values;
}

template <class Element>
void expect_exact_product() {
  const std::vector<int> a = whole_numbers(16 * 64, 1), b = whole_numbers(16 * 64, 2);
  const DeviceArray<int> device_a(a), device_b(b);
  const DeviceArray<float> d(256);
  cuda::launch(multiply<Element>, {.grid = dim3(1), .block = dim3(32)},
               static_cast<const int*>(device_a.data()), static_cast<const int*>(device_b.data()), d.data());
  const std::vector<float> got = d.read();
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 16; ++column) {
      int sum = 0;
      for (int k = 0; k < 64; ++k) sum += a[row * 64 + k] * b[column * 64 + k];
      ASSERT_EQ(got[row * 16 + column], static_cast<float>(sum)) << row << ", " << column;
    }
}

TEST_F(Fragments, MmaOfBf16IsExactOnWholeNumbers) { expect_exact_product<__nv_bfloat16>(); }
TEST_F(Fragments, MmaOfF16IsExactOnWholeNumbers) { expect_exact_product<__half>(); }

__global__ void copy_pieces(const uint8_t* from, uint8_t* to) {
  __shared__ __align__(16) uint8_t buffer[32 * 16];
  ptx::prefetch_line(from + threadIdx.x * 16);  // changes nothing but the time
  ptx::cp_async_16(buffer + threadIdx.x * 16, from + threadIdx.x * 16, threadIdx.x % 3 != 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncwarp();
  for (int i = 0; i < 16; ++i) to[threadIdx.x * 16 + i] = buffer[threadIdx.x * 16 + i];
}

TEST_F(Fragments, CpAsyncCopiesAPieceOrWritesZeros) {
  std::vector<uint8_t> from(512);
  for (int i = 0; i < 512; ++i) from[i] = static_cast<uint8_t>(i % 251 + 1);
  const DeviceArray<uint8_t> source(from), to(512);
  cuda::launch(copy_pieces, {.grid = dim3(1), .block = dim3(32)}, static_cast<const uint8_t*>(source.data()),
               to.data());
  const std::vector<uint8_t> got = to.read();
  for (int i = 0; i < 512; ++i) ASSERT_EQ(got[i], i / 16 % 3 != 0 ? from[i] : 0) << i;
}

}  // namespace
}  // namespace llamita
