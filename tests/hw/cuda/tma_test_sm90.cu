// mbarriers, the copy engine and the ring: parities, where a swizzled box lands, edges, multicast, and order.
#include <cuda_bf16.h>

#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/ptx/tma.cuh"
#include "hw/cuda/device/swizzle.cuh"
#include "hw/cuda/tensor_map.h"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using Tma = test::HopperTest;

constexpr int kRows = 100, kColumns = 72;
constexpr int kBox = 64;
constexpr int kBoxBytes = kBox * 128;

__global__ void parities(uint32_t* seen) {
  __shared__ uint64_t barrier;
  ptx::mbarrier_init(&barrier, 2);
  ptx::mbarrier_init_fence();
  auto look = [&] { return ptx::mbarrier_try_wait(&barrier, 0) | ptx::mbarrier_try_wait(&barrier, 1) << 1; };
  seen[0] = look();
  ptx::mbarrier_arrive(&barrier);
  seen[1] = look();
  ptx::mbarrier_arrive(&barrier);
  seen[2] = look();
  ptx::mbarrier_arrive(&barrier);
  ptx::mbarrier_arrive_expect_tx(&barrier, 0);
  seen[3] = look();
  ptx::mbarrier_invalidate(&barrier);
}

TEST_F(Tma, AWaitPassesForThePhaseBeforeTheCurrentOne) {
  const DeviceArray<uint32_t> seen(4);
  cuda::launch(parities, {.grid = dim3(1), .block = dim3(1)}, seen.data());
  EXPECT_EQ(seen.read(), (std::vector<uint32_t>{2, 2, 1, 2}));
}

std::vector<uint16_t> numbered(int rows, int columns) {
  std::vector<uint16_t> values(static_cast<size_t>(rows) * columns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i + 1);
  return values;
}

Tensor tensor_of(const DeviceArray<uint16_t>& array, int rows, int columns) {
  return Tensor(array.data(), DType::bf16, {rows, columns}, Device{DeviceKind::cuda, 0});
}

// Brings one box and copies shared memory out byte by byte.
__global__ void load_box(const __grid_constant__ CUtensorMap map, int row, int column, uint8_t* out) {
  __shared__ __align__(1024) uint8_t tile[kBoxBytes];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect_tx(&barrier, kBoxBytes);
    ptx::tma_prefetch_map(&map);
    ptx::tma_load_2d(tile, &map, column, row, &barrier);
  }
  __syncthreads();
  ptx::mbarrier_wait(&barrier, 0);
  for (int i = threadIdx.x; i < kBoxBytes; i += blockDim.x) out[i] = tile[i];
}

void expect_box(int row0, int column0, cuda::TmaSwizzle swizzle) {
  const std::vector<uint16_t> source = numbered(kRows, kColumns);
  const DeviceArray<uint16_t> device(source);
  const DeviceArray<uint8_t> out(kBoxBytes);
  const CUtensorMap map = cuda::make_tensor_map(tensor_of(device, kRows, kColumns), {kBox, kBox}, swizzle);
  cuda::launch(load_box, {.grid = dim3(1), .block = dim3(128)}, map, row0, column0, out.data());
  const std::vector<uint8_t> got = out.read();
  for (int r = 0; r < kBox; ++r)
    for (int c = 0; c < kBox; ++c) {
      const int row = row0 + r, column = column0 + c;
      const int want = row < kRows && column < kColumns ? source[row * kColumns + column] : 0;
      const uint32_t at =
          swizzle == cuda::TmaSwizzle::span128 ? device::swizzled_byte(r, c * 2) : r * 128 + c * 2;
      ASSERT_EQ(got[at] | got[at + 1] << 8, want) << "row " << r << ", column " << c;
    }
}

TEST_F(Tma, ABoxLandsWhereTheSwizzleSays) { expect_box(8, 0, cuda::TmaSwizzle::span128); }
TEST_F(Tma, ABoxOverTheEdgesIsFilledWithZeros) { expect_box(72, 40, cuda::TmaSwizzle::span128); }
TEST_F(Tma, ABoxOutsideTheTensorIsAllZeros) { expect_box(128, 0, cuda::TmaSwizzle::span128); }
TEST_F(Tma, WithoutSwizzleRowsFollowEachOther) { expect_box(8, 8, cuda::TmaSwizzle::none); }

__global__ void store_box(const __grid_constant__ CUtensorMap map, int row, int column) {
  __shared__ __align__(1024) uint8_t tile[kBoxBytes];
  for (int i = threadIdx.x; i < kBox * kBox; i += blockDim.x)
    *reinterpret_cast<uint16_t*>(tile + device::swizzled_byte(i / kBox, i % kBox * 2)) =
        static_cast<uint16_t>(i + 7);
  ptx::fence_proxy_async_smem();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_store_2d(&map, tile, column, row);
    ptx::tma_store_commit();
    ptx::tma_store_wait_read<0>();
    ptx::tma_store_wait<0>();
  }
}

TEST_F(Tma, AStoreWritesItsBoxAndNothingOutsideTheTensor) {
  const DeviceArray<uint16_t> to(kRows * kColumns + 512);
  const CUtensorMap map = cuda::make_tensor_map(tensor_of(to, kRows, kColumns), {kBox, kBox});
  cuda::launch(store_box, {.grid = dim3(1), .block = dim3(128)}, map, 72, 40);
  const std::vector<uint16_t> got = to.read();
  for (int i = 0; i < kRows * kColumns + 512; ++i) {
    const int r = i / kColumns - 72, c = i % kColumns - 40;
    const bool inside = i < kRows * kColumns && r >= 0 && c >= 0;
    ASSERT_EQ(got[i], inside ? r * kBox + c + 7 : 0xFFFF) << i;
  }
}

// The same box from several blocks, which memory adds up.
__global__ void add_box(const __grid_constant__ CUtensorMap map, int row, int column) {
  __shared__ __align__(1024) uint8_t tile[kBoxBytes];
  for (int i = threadIdx.x; i < kBox * kBox; i += blockDim.x)
    *reinterpret_cast<__nv_bfloat16*>(tile + device::swizzled_byte(i / kBox, i % kBox * 2)) =
        __int2bfloat16_rn(i % 50);
  ptx::fence_proxy_async_smem();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_add_2d(&map, tile, column, row);
    ptx::tma_store_commit();
    ptx::tma_store_wait<0>();
  }
}

TEST_F(Tma, BoxesAreAddedToWhatLiesThere) {
  constexpr int kAdding = 4;
  const uint16_t one = __bfloat16_as_ushort(__int2bfloat16_rn(1));
  const DeviceArray<uint16_t> to(std::vector<uint16_t>(kRows * kColumns, one));
  const CUtensorMap map = cuda::make_tensor_map(tensor_of(to, kRows, kColumns), {kBox, kBox});
  cuda::launch(add_box, {.grid = dim3(kAdding), .block = dim3(128)}, map, 72, 40);
  const std::vector<uint16_t> got = to.read();
  for (int i = 0; i < kRows * kColumns; ++i) {
    const int r = i / kColumns - 72, c = i % kColumns - 40;
    const int want = 1 + (r >= 0 && c >= 0 ? kAdding * ((r * kBox + c) % 50) : 0);
    ASSERT_EQ(got[i], __bfloat16_as_ushort(__int2bfloat16_rn(want))) << i;
  }
}

// A kernel that reads by ordinary loads what the copy engine wrote in the kernel before.
__global__ void copy_words(const uint16_t* from, int count, uint16_t* to) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}

TEST_F(Tma, TheNextKernelReadsWhatAStoreWrote) {
  const Storage fresh = cuda::allocate_storage(kBoxBytes, 0);  // nothing but the store writes there
  const Tensor tensor(fresh.data(), DType::bf16, {kBox, kBox}, Device{DeviceKind::cuda, 0});
  const DeviceArray<uint16_t> to(kBox * kBox);
  cuda::launch(store_box, {.grid = dim3(1), .block = dim3(128)}, cuda::make_tensor_map(tensor, {kBox, kBox}),
               0, 0);
  cuda::launch(copy_words, {.grid = dim3(1), .block = dim3(128)}, static_cast<const uint16_t*>(fresh.data()),
               kBox * kBox, to.data());
  const std::vector<uint16_t> got = to.read();
  for (int i = 0; i < kBox * kBox; ++i) ASSERT_EQ(got[i], i + 7);
}

// Each of two blocks brings half of the box's rows to both.
__global__ void multicast(const __grid_constant__ CUtensorMap map, uint8_t* out) {
  __shared__ __align__(1024) uint8_t tile[kBoxBytes];
  __shared__ uint64_t barrier;
  const uint32_t rank = ptx::cluster_rank();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::mbarrier_init_fence();
  }
  ptx::cluster_sync();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&barrier, kBoxBytes);
    const int half = static_cast<int>(rank) * kBox / 2;
    ptx::tma_load_2d_multicast(tile + half * 128, &map, 0, half, &barrier, 3);
  }
  ptx::mbarrier_wait(&barrier, 0);
  for (int i = threadIdx.x; i < kBoxBytes; i += blockDim.x) out[rank * kBoxBytes + i] = tile[i];
  ptx::cluster_sync();
}

TEST_F(Tma, MulticastReachesBothBlocksOfACluster) {
  const std::vector<uint16_t> source = numbered(kBox, kBox);
  const DeviceArray<uint16_t> device(source);
  const DeviceArray<uint8_t> out(2 * kBoxBytes);
  const CUtensorMap map = cuda::make_tensor_map(tensor_of(device, kBox, kBox), {kBox / 2, kBox});
  cuda::launch(multicast, {.grid = dim3(2), .block = dim3(128), .cluster = 2}, map, out.data());
  const std::vector<uint8_t> got = out.read();
  for (int i = 0; i < 2 * kBox * kBox; ++i) {
    const uint32_t at = i / (kBox * kBox) * kBoxBytes + device::swizzled_byte(i / kBox % kBox, i % kBox * 2);
    ASSERT_EQ(got[at] | got[at + 1] << 8, source[i % (kBox * kBox)]) << i;
  }
}

__global__ void remote_arrival(uint32_t* done) {
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 2);
    ptx::mbarrier_init_fence();
  }
  ptx::cluster_sync();
  if (threadIdx.x < 2)
    ptx::mbarrier_arrive_cluster(&barrier, threadIdx.x);  // each block tells itself and the other
  ptx::mbarrier_wait(&barrier, 0);
  if (threadIdx.x == 0) done[ptx::cluster_rank()] = 1;
  ptx::cluster_sync();
}

TEST_F(Tma, ABlockCanArriveAtItsPartnersBarrier) {
  const DeviceArray<uint32_t> done(2);
  cuda::launch(remote_arrival, {.grid = dim3(2), .block = dim3(32), .cluster = 2}, done.data());
  EXPECT_EQ(done.read(), (std::vector<uint32_t>{1, 1}));
}

// Each block leaves numbers in its shared memory and reads the other's.
__global__ void read_partner(float4* out) {
  __shared__ float4 own[32];
  const uint32_t rank = ptx::cluster_rank();
  const float base = 1000.0f * rank + 4.0f * threadIdx.x;
  own[threadIdx.x] = make_float4(base, base + 1, base + 2, base + 3);
  ptx::cluster_sync();
  const uint32_t address = ptx::cluster_address(ptx::smem_address(&own[threadIdx.x]), rank ^ 1);
  out[rank * 32 + threadIdx.x] = ptx::load_cluster_float4(address);
  ptx::cluster_sync();
}

TEST_F(Tma, ABlockCanReadItsPartnersSharedMemory) {
  const DeviceArray<float> out(256);
  cuda::launch(read_partner, {.grid = dim3(2), .block = dim3(32), .cluster = 2},
               reinterpret_cast<float4*>(out.data()));
  const std::vector<float> got = out.read();
  for (int i = 0; i < 256; ++i) ASSERT_EQ(got[i], 1000 * (1 - i / 128) + i % 128) << i;
}

// A box of 16 rows of one head from (B 2, T 20, H 3, D 64) to the same place of another tensor.
__global__ void copy_head(const __grid_constant__ CUtensorMap from, const __grid_constant__ CUtensorMap to,
                          int4 at) {
  __shared__ __align__(1024) uint8_t tile[16 * 128];
  __shared__ uint64_t barrier;
  if (threadIdx.x != 0) return;
  ptx::mbarrier_init(&barrier, 1);
  ptx::mbarrier_init_fence();
  ptx::tma_prefetch_4d(&from, at);  // changes nothing but the time
  ptx::mbarrier_arrive_expect_tx(&barrier, sizeof tile);
  ptx::tma_load_4d(tile, &from, at, &barrier);
  ptx::mbarrier_wait(&barrier, 0);
  ptx::tma_store_4d(&to, tile, at);
  ptx::tma_store_commit();
  ptx::tma_store_wait<0>();
}

TEST_F(Tma, RowsOfOneHeadMoveAloneAndStopAtTheSequencesEnd) {
  constexpr int kBatch = 2, kTokens = 20, kHeads = 3, kDim = 64;
  const std::vector<uint16_t> source = numbered(kBatch * kTokens * kHeads, kDim);
  const DeviceArray<uint16_t> from(source), to(source.size(), 0);
  const auto map = [&](const DeviceArray<uint16_t>& array) {
    const Tensor tensor(array.data(), DType::bf16, {kBatch, kTokens, kHeads, kDim},
                        Device{DeviceKind::cuda, 0});
    return cuda::make_tensor_map(tensor, {1, 16, 1, kDim});
  };
  cuda::launch(copy_head, {.grid = dim3(1), .block = dim3(32)}, map(from), map(to), make_int4(0, 10, 1, 0));
  const std::vector<uint16_t> got = to.read();
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t row = i / kDim, head = row % kHeads, token = row / kHeads % kTokens;
    const bool moved = row < kTokens * kHeads && head == 1 && token >= 10;
    ASSERT_EQ(got[i], moved ? source[i] : 0) << i;
  }
}

// A box of 16 rows of one head from (T 20, H 3, D 64): the axis of heads lies inside.
__global__ void copy_rows(const __grid_constant__ CUtensorMap from, const __grid_constant__ CUtensorMap to,
                          int3 at) {
  __shared__ __align__(1024) uint8_t tile[16 * 128];
  __shared__ uint64_t barrier;
  if (threadIdx.x != 0) return;
  ptx::mbarrier_init(&barrier, 1);
  ptx::mbarrier_init_fence();
  ptx::mbarrier_arrive_expect_tx(&barrier, sizeof tile);
  ptx::tma_load_3d(tile, &from, at, &barrier);
  ptx::mbarrier_wait(&barrier, 0);
  ptx::tma_store_3d(&to, tile, at);
  ptx::tma_store_commit();
  ptx::tma_store_wait<0>();
}

TEST_F(Tma, BoxesOfRankThreeNameTheirAxesOutermostFirst) {
  constexpr int kTokens = 20, kHeads = 3, kDim = 64;
  const std::vector<uint16_t> source = numbered(kTokens * kHeads, kDim);
  const DeviceArray<uint16_t> from(source), to(source.size(), 0);
  const auto map = [&](const DeviceArray<uint16_t>& array) {
    const Tensor tensor(array.data(), DType::bf16, {kTokens, kHeads, kDim}, Device{DeviceKind::cuda, 0});
    return cuda::make_tensor_map(tensor, {16, 1, kDim});
  };
  cuda::launch(copy_rows, {.grid = dim3(1), .block = dim3(32)}, map(from), map(to), make_int3(10, 1, 0));
  const std::vector<uint16_t> got = to.read();
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t row = i / kDim;
    ASSERT_EQ(got[i], row % kHeads == 1 && row / kHeads >= 10 ? source[i] : 0) << i;
  }
}

// A row of 64 numbers an iteration through three stages; two consumer warps check every one and release.
constexpr int kStages = 3, kRounds = 50;

__global__ void ring(const __grid_constant__ CUtensorMap map, int* wrong) {
  __shared__ __align__(1024) uint16_t rows[kStages][512];  // 128 bytes used; stages on 1024-byte borders
  __shared__ device::Ring<kStages> stages;
  if (threadIdx.x == 0) stages.init(2);
  __syncthreads();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 0) {
    device::RingCursor<kStages> at;
    for (int i = 0; lane == 0 && i < kRounds; ++i, at.advance()) {
      stages.acquire(at, 128);
      ptx::tma_load_2d(rows[at.stage()], &map, 0, i, &stages.full[at.stage()]);
    }
  } else {
    for (int i = 0; i < kRounds; ++i) {
      const device::RingCursor<kStages> at(i);  // by arithmetic, where the producer counts
      stages.wait_full(at);
      for (int j = lane; j < 64; j += 32)
        if (rows[at.stage()][j] != i * 64 + j + 1) atomicAdd(wrong, 1);
      if (warp == 1) __nanosleep(i % 7 * 200);
      __syncwarp();
      if (lane == 0) stages.release(at.stage());
    }
  }
}

TEST_F(Tma, TheRingHandsEveryRowToEveryConsumerOnce) {
  const DeviceArray<uint16_t> device(numbered(kRounds, 64));
  const DeviceArray<int> wrong(std::vector<int>{0});
  const CUtensorMap map =
      cuda::make_tensor_map(tensor_of(device, kRounds, 64), {1, 64}, cuda::TmaSwizzle::none);
  cuda::launch(ring, {.grid = dim3(1), .block = dim3(96)}, map, wrong.data());
  EXPECT_EQ(wrong.read()[0], 0);
}

}  // namespace
}  // namespace llamita
