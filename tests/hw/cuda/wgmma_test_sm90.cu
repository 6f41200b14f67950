// wgmma on whole numbers, where every product and sum is exact: descriptors, the accumulators' pattern for
// every width and type, A from registers, B stored the other way round, and the way of a result back to
// memory.
#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/mbarrier.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/ptx/wgmma_mma_narrow.cuh"
#include "hw/cuda/device/tile_store.cuh"
#include "hw/cuda/device/wgmma.cuh"
#include "hw/cuda/tensor_map.h"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using Wgmma = test::HopperTest;

enum class Source { shared, registers, transposed_b };

struct alignas(1024) Operands {
  uint8_t a[64 * 128];
  uint8_t b[256 * 128];
  uint64_t barrier;
};

// D(64, N) = A(64, 64) B^T; B is (N, 64), or (64, N) in panels of 64 columns for transposed_b.
template <class Element, int kN, Source kSource>
__global__ void multiply(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                         float* d) {
  __shared__ Operands s;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&s.barrier, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect_tx(&s.barrier, (64 + kN) * 128);
    ptx::tma_load_2d(s.a, &a, 0, 0, &s.barrier);
    constexpr int kPanels = kSource == Source::transposed_b ? kN / 64 : 1;
    for (int panel = 0; panel < kPanels; ++panel)
      ptx::tma_load_2d(s.b + panel * 64 * 128, &b, panel * 64, 0, &s.barrier);
  }
  __syncthreads();
  ptx::mbarrier_wait(&s.barrier, 0);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sum[kN / 2];
  uint32_t fragments[4][4];
  for (int k16 = 0; k16 < 4; ++k16) device::load_a_fragment(fragments[k16], s.a, warp * 16, k16, lane);
  const uint64_t desc_b = device::wgmma_descriptor(s.b);
  ptx::wgmma_fence();
  if constexpr (kSource == Source::shared) {
    device::wgmma_k64<Element, kN>(sum, device::wgmma_descriptor(s.a), desc_b, false);
  } else {
#pragma unroll
    for (int k16 = 0; k16 < 4; ++k16) {
      if constexpr (kSource == Source::registers) {
        ptx::Wgmma<Element, kN>::rs(sum, fragments[k16], desc_b + k16 * device::kDescriptorK16, k16 > 0);
      } else {
        const uint64_t panels = device::wgmma_descriptor_transposed<64>(s.b);
        ptx::Wgmma<Element, kN>::template rs<1>(sum, fragments[k16],
                                                panels + k16 * device::kDescriptorK16Transposed, k16 > 0);
      }
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_pin(sum);
  for (int j = 0; j < kN / 8; ++j)
    for (int i = 0; i < 4; ++i)
      d[(warp * 16 + lane / 4 + i / 2 * 8) * kN + j * 8 + lane % 4 * 2 + i % 2] = sum[4 * j + i];
}

struct Matrix {
  std::vector<int> values;
  std::vector<uint16_t> bits;
};

uint16_t bits_of(int value, bool half) {
  if (half) return __half_as_ushort(__int2half_rn(value));
  return __bfloat16_as_ushort(__float2bfloat16(static_cast<float>(value)));
}

Matrix whole_numbers(size_t count, uint32_t seed, bool half) {
  Matrix m;
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    m.values.push_back(static_cast<int>(seed >> 24) % 9 - 4);
    m.bits.push_back(bits_of(m.values.back(), half));
  }
  return m;
}

template <class Element, int kN, Source kSource>
void expect_exact() {
  constexpr bool kHalf = std::is_same_v<Element, __half>;
  constexpr bool kTransposed = kSource == Source::transposed_b;
  const Matrix a = whole_numbers(64 * 64, 5, kHalf), b = whole_numbers(kN * 64, 6, kHalf);
  const DeviceArray<uint16_t> device_a(a.bits), device_b(b.bits);
  const DeviceArray<float> d(64 * kN);
  const DType dtype = kHalf ? DType::f16 : DType::bf16;
  const Device gpu{DeviceKind::cuda, 0};
  const CUtensorMap map_a = cuda::make_tensor_map(Tensor(device_a.data(), dtype, {64, 64}, gpu), {64, 64});
  const CUtensorMap map_b = cuda::make_tensor_map(kTransposed ? Tensor(device_b.data(), dtype, {64, kN}, gpu)
                                                              : Tensor(device_b.data(), dtype, {kN, 64}, gpu),
                                                  {kTransposed ? 64 : kN, 64});
  cuda::launch(multiply<Element, kN, kSource>, {.grid = dim3(1), .block = dim3(128)}, map_a, map_b, d.data());
  const std::vector<float> got = d.read();
  for (int row = 0; row < 64; ++row)
    for (int column = 0; column < kN; ++column) {
      int sum = 0;
      for (int k = 0; k < 64; ++k)
        sum += a.values[row * 64 + k] * b.values[kTransposed ? k * kN + column : column * 64 + k];
      ASSERT_EQ(got[row * kN + column], static_cast<float>(sum))
          << "N " << kN << ": " << row << ", " << column;
    }
}

template <class Element, Source kSource, int... kWidths>
void expect_exact_widths(std::integer_sequence<int, kWidths...>) {
  (expect_exact<Element, kWidths, kSource>(), ...);
}

using Widths = std::integer_sequence<int, 16, 32, 64, 96, 128, 160, 192, 224, 256>;

TEST_F(Wgmma, Bf16FromSharedMemoryIsExactAtEveryWidth) {
  expect_exact_widths<__nv_bfloat16, Source::shared>(Widths{});
}
TEST_F(Wgmma, F16FromSharedMemoryIsExactAtEveryWidth) {
  expect_exact_widths<__half, Source::shared>(Widths{});
}
TEST_F(Wgmma, AMayComeFromRegisters) {
  expect_exact<__nv_bfloat16, 64, Source::registers>();
  expect_exact<__nv_bfloat16, 128, Source::registers>();
  expect_exact<__half, 256, Source::registers>();
}
TEST_F(Wgmma, BMayBeStoredWithItsColumnsContiguous) {
  expect_exact<__nv_bfloat16, 64, Source::transposed_b>();
  expect_exact<__half, 64, Source::transposed_b>();
  expect_exact<__nv_bfloat16, 128, Source::transposed_b>();
  expect_exact<__nv_bfloat16, 256, Source::transposed_b>();
}

// Every register names the two elements it holds; lane i's row of 16 bytes is row i ^ 5 of the table.
__global__ void store_tiles(uint16_t* out) {
  __shared__ __align__(16) uint16_t table[32 * 8];
  const uint32_t lane = threadIdx.x;
  for (uint32_t i = lane; i < 256; i += 32) table[i] = 0xFFFF;
  __syncwarp();
  uint32_t r[4];
  for (uint32_t tile = 0; tile < 4; ++tile) {
    const uint32_t first = (tile * 8 + lane / 4) * 8 + lane % 4 * 2;
    r[tile] = first | (first + 1) << 16;
  }
  ptx::stmatrix_x4(&table[(lane ^ 5) * 8], r[0], r[1], r[2], r[3]);
  __syncwarp();
  for (uint32_t i = lane; i < 256; i += 32) out[i] = table[i];
}

TEST_F(Wgmma, StmatrixPutsTilesWhereTheLanesSay) {
  const DeviceArray<uint16_t> out(256);
  cuda::launch(store_tiles, {.grid = dim3(1), .block = dim3(32)}, out.data());
  const std::vector<uint16_t> got = out.read();
  for (int i = 0; i < 256; ++i) ASSERT_EQ(got[((i / 8) ^ 5) * 8 + i % 8], i) << i;
}

// Accumulators that name their own place go through stmatrix and TMA to memory.
template <class Element>
__global__ void store_pattern(const __grid_constant__ CUtensorMap map) {
  __shared__ __align__(1024) uint8_t tiles[2][64 * 128];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float d[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    d[i] = static_cast<float>(row * 2 + column);  // at most 253: exact in bf16 and f16
  }
#pragma unroll
  for (int chunk = 0; chunk < 2; ++chunk) {
    if constexpr (std::is_same_v<Element, __half>)
      device::store_chunk<__half>(tiles[chunk], d, chunk, threadIdx.x);
    else
      device::store_chunk_bf16(tiles[chunk], d, chunk, threadIdx.x);
  }
  ptx::fence_proxy_async_smem();
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int chunk = 0; chunk < 2; ++chunk) ptx::tma_store_2d(&map, tiles[chunk], chunk * 64, 0);
    ptx::tma_store_commit();
    ptx::tma_store_wait<0>();
  }
}

template <class Element>
void expect_pattern(DType dtype) {
  const DeviceArray<uint16_t> out(64 * 128);
  const Tensor tensor(out.data(), dtype, {64, 128}, Device{DeviceKind::cuda, 0});
  cuda::launch(store_pattern<Element>, {.grid = dim3(1), .block = dim3(128)},
               cuda::make_tensor_map(tensor, {64, 64}));
  const std::vector<uint16_t> got = out.read();
  for (int row = 0; row < 64; ++row)
    for (int column = 0; column < 128; ++column)
      ASSERT_EQ(got[row * 128 + column], bits_of(row * 2 + column, dtype == DType::f16))
          << row << ", " << column;
}

TEST_F(Wgmma, AccumulatorsReachTheirPlaceInMemory) {
  expect_pattern<__nv_bfloat16>(DType::bf16);
  expect_pattern<__half>(DType::f16);
}

}  // namespace
}  // namespace llamita
