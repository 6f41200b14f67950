// The portable GEMM, for more tokens than a gemv takes: lessons/gemm_06_cp_async as a production kernel with
// ragged edges and epilogues. cp.async fills three stages of K slices of 64 (rows of 128 bytes in the
// 128-byte swizzle), ldmatrix feeds mma.sync m16n8k16, eight warps in 2 x 4 each hold a tile of kTileM / 2
// x 32.
//
// Tiles: 128 x 128, two blocks an SM (96 KB of stages); 64 x 128 where those would leave SMs idle. The block
// index runs over rows first, so that blocks at work together share their weights in L2. Bound by mma.sync,
// which reaches about 60 % of the tensor cores' rate on Hopper.
#include "hw/cuda/device/mma.cuh"
#include "hw/cuda/device/ptx/cp_async.cuh"
#include "ops/cuda.h"
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/linear/gemm_sm80.cuh"

namespace llamita {

namespace {

constexpr int kTileN = 128;
constexpr int kDepth = 64;  // 128 bytes: one row of the swizzle
constexpr int kThreads = 256;
constexpr int kStages = 3;
constexpr int kWarpN = 32;

template <int kTileM>
struct Stage {
  uint8_t a[kTileM * device::kSwizzleRowBytes];
  uint8_t b[kTileN * device::kSwizzleRowBytes];
};

// A thread brings piece t % 8 of every 32nd row from row t / 8 on. What lies outside becomes zero.
template <int kRows, class Element>
__device__ __forceinline__ void load_tile(uint8_t* tile, const Element* matrix, int64_t stride, int first_row,
                                          int rows, int k0, int K) {
  const int piece = threadIdx.x % 8;
  const int column = k0 + piece * 8;
#pragma unroll
  for (int i = 0; i < kRows / 32; ++i) {
    const int row = static_cast<int>(threadIdx.x) / 8 + i * 32;
    const bool inside = first_row + row < rows && column < K;
    const Element* source = inside ? matrix + (first_row + row) * stride + column : matrix;
    ptx::cp_async_16(tile + device::swizzled_piece(row, piece), source, inside);
  }
}

template <int kTileM>
__device__ __forceinline__ void store_tile(const GemmSm80& p, const float (&sum)[kTileM / 32][4][4], int row0,
                                           int column0, int lane) {
#pragma unroll
  for (int i = 0; i < kTileM / 32; ++i)
#pragma unroll
    for (int j = 0; j < kWarpN / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = row0 + i * 16 + lane / 4 + e / 2 * 8;
        const int column = column0 + j * 8 + lane % 4 * 2 + e % 2;
        if (row >= p.M || column >= p.N) continue;
        float value = sum[i][j][e];
        if (p.bias != nullptr) value += p.bias[column];
        if (p.residual != nullptr)
          value += device::load_float(p.residual, p.residual_dtype, row * p.residual_stride + column);
        device::store_float(p.out, p.out_dtype, row * p.out_stride + column, value);
      }
}

template <int kTileM, class Element>
__global__ void __launch_bounds__(kThreads, 2) gemm_cp_async(const __grid_constant__ GemmSm80 p) {
  extern __shared__ __align__(1024) uint8_t smem[];
  auto* stages = reinterpret_cast<Stage<kTileM>*>(smem);
  const int row0 = blockIdx.x * kTileM, column0 = blockIdx.y * kTileN;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp / 4 * (kTileM / 2), warp_column = warp % 4 * kWarpN;
  const int blocks = (p.K + kDepth - 1) / kDepth;
  const auto* a = static_cast<const Element*>(p.a);
  const auto* b = static_cast<const Element*>(p.b);
  device::wait_for_predecessor();
  device::start_successor();

  // Groups are committed even when empty, so that "all but the newest kStages - 2" always means the same
  // block.
  const auto load = [&](int block) {
    if (block < blocks) {
      Stage<kTileM>& stage = stages[block % kStages];
      load_tile<kTileM>(stage.a, a, p.a_stride, row0, p.M, block * kDepth, p.K);
      load_tile<kTileN>(stage.b, b, p.b_stride, column0, p.N, block * kDepth, p.K);
    }
    ptx::cp_async_commit();
  };
  for (int s = 0; s < kStages - 1; ++s) load(s);

  float sum[kTileM / 32][4][4] = {};
  for (int block = 0; block < blocks; ++block) {
    ptx::cp_async_wait<kStages - 2>();
    __syncthreads();  // this block's stage is there for all, and all are done with the one loaded next
    load(block + kStages - 1);
    const Stage<kTileM>& stage = stages[block % kStages];
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; ++k16) {
      uint32_t fa[kTileM / 32][4], fb[2][4];
#pragma unroll
      for (int i = 0; i < kTileM / 32; ++i)
        device::load_a_fragment(fa[i], stage.a, warp_row + i * 16, k16, lane);
#pragma unroll
      for (int j = 0; j < 2; ++j) device::load_b_fragments(fb[j], stage.b, warp_column + j * 16, k16, lane);
#pragma unroll
      for (int i = 0; i < kTileM / 32; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          ptx::mma_m16n8k16<Element>(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
    }
  }
  ptx::cp_async_wait<0>();
  store_tile<kTileM>(p, sum, row0 + warp_row, column0 + warp_column, lane);
}

struct ConvertParams {
  const void* x;
  void* out;
  int64_t x_stride, out_stride, rows;
  int columns;
  DType dtype, out_dtype;
};

__global__ void __launch_bounds__(kThreads) convert_elements(const ConvertParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int c = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (c >= p.columns) return;
  for (int64_t row = blockIdx.y; row < p.rows; row += gridDim.y)
    device::store_float(p.out, p.out_dtype, row * p.out_stride + c,
                        device::load_float(p.x, p.dtype, row * p.x_stride + c));
}

int64_t tiles(int64_t M, int64_t N, int tile_m) {
  return static_cast<int64_t>(ceil_div(M, tile_m)) * ceil_div(N, kTileN);
}

bool takes_small_tiles(int64_t M, int64_t N, const Caps& caps) {
  return M <= 64 || tiles(M, N, 128) < 2 * caps.sm_count;
}

}  // namespace

void convert_rows(const Tensor& x, void* out, DType element, int64_t out_stride, Context& context) {
  const ConvertParams params{.x = x.data(),
                             .out = out,
                             .x_stride = x.stride(0),
                             .out_stride = out_stride,
                             .rows = x.dim(0),
                             .columns = static_cast<int>(x.dim(1)),
                             .dtype = x.dtype(),
                             .out_dtype = element};
  const dim3 grid(ceil_div(x.dim(1), kThreads), static_cast<unsigned>(std::min<int64_t>(x.dim(0), 65535)));
  launch(context, convert_elements, grid, kThreads, 0, params);
}

void gemm_sm80(const GemmSm80& gemm, Context& context) {
  if (gemm.M == 0 || gemm.N == 0) return;
  const bool small = takes_small_tiles(gemm.M, gemm.N, context.caps());
  const dim3 grid(ceil_div(gemm.M, small ? 64 : 128), ceil_div(gemm.N, kTileN));
  with_half_type(gemm.element, [&]<class Element>() {
    if (small)
      launch(context, gemm_cp_async<64, Element>, grid, kThreads, kStages * sizeof(Stage<64>), gemm);
    else
      launch(context, gemm_cp_async<128, Element>, grid, kThreads, kStages * sizeof(Stage<128>), gemm);
  });
}

double gemm_sm80_us(int64_t M, int64_t N, int64_t K, const Caps& caps) {
  const int tile_m = takes_small_tiles(M, N, caps) ? 64 : 128;
  const double tile_flops = 2.0 * tile_m * kTileN * static_cast<double>(K);
  const int sms = std::max(caps.sm_count, 1);
  const double waves = static_cast<double>((tiles(M, N, tile_m) + sms - 1) / sms);
  const double bytes = 2.0 * static_cast<double>(N * K + M * K + M * N);
  return kCudaLaunchUs + std::max(waves * tile_flops / 1.6e6, cuda_memory_us(caps, 1.15 * bytes));
}

}  // namespace llamita
