// What the blocks of a cluster tell each other, bulk copies by address, additions that memory does, registers
// that change hands.
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/bulk_copy.cuh"
#include "hw/cuda/device/ptx/cache.cuh"
#include "hw/cuda/device/ptx/cluster_store.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/reduce.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using Cluster = test::HopperTest;
using BulkCopy = test::HopperTest;
using Registers = test::HopperTest;

constexpr int kBlocks = 4;  // a cluster

// All blocks send to block 0, which hears from its barrier alone that everything came.
template <class T, class Send>
__device__ void send_to_first(T* out, Send send) {
  __shared__ T mail[kBlocks][32];
  __shared__ uint64_t barrier;
  const uint32_t rank = ptx::cluster_rank();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::mbarrier_init_fence();
    if (rank == 0) ptx::mbarrier_arrive_expect_tx(&barrier, sizeof mail);
  }
  __syncthreads();
  ptx::cluster_arrive_relaxed();
  ptx::cluster_wait();
  send(&mail[rank][threadIdx.x], 1000.0f * rank + 4.0f * threadIdx.x, &barrier);
  if (rank == 0) {
    ptx::mbarrier_wait(&barrier, 0);
    for (int block = 0; block < kBlocks; ++block) out[block * 32 + threadIdx.x] = mail[block][threadIdx.x];
  }
  ptx::cluster_sync();
}

__global__ void send_float4(float4* out) {
  send_to_first(out, [](float4* to, float x, uint64_t* barrier) {
    ptx::store_async_float4(to, make_float4(x, x + 1, x + 2, x + 3), barrier, 0);
  });
}

__global__ void send_float2(float2* out) {
  send_to_first(out, [](float2* to, float x, uint64_t* barrier) {
    ptx::store_async_float2(to, make_float2(x, x + 1), barrier, 0);
  });
}

__global__ void send_u64(uint64_t* out) {
  send_to_first(out, [](uint64_t* to, float x, uint64_t* barrier) {
    ptx::store_async_u64(to, uint64_t{1} << 40 | static_cast<uint64_t>(x), barrier, 0);
  });
}

TEST_F(Cluster, SentBytesAreCountedByTheReceiversBarrier) {
  const cuda::LaunchConfig config{.grid = dim3(kBlocks), .block = dim3(32), .cluster = kBlocks};
  const DeviceArray<float4> fours(kBlocks * 32);
  const DeviceArray<float2> pairs(kBlocks * 32);
  const DeviceArray<uint64_t> words(kBlocks * 32);
  cuda::launch(send_float4, config, fours.data());
  cuda::launch(send_float2, config, pairs.data());
  cuda::launch(send_u64, config, words.data());
  const auto four = fours.read();
  const auto pair = pairs.read();
  const auto word = words.read();
  for (int i = 0; i < kBlocks * 32; ++i) {
    const int x = 1000 * (i / 32) + 4 * (i % 32);
    ASSERT_EQ(four[i].x, x) << i;
    ASSERT_EQ(four[i].y, x + 1) << i;
    ASSERT_EQ(four[i].z, x + 2) << i;
    ASSERT_EQ(four[i].w, x + 3) << i;
    ASSERT_EQ(pair[i].x, x) << i;
    ASSERT_EQ(pair[i].y, x + 1) << i;
    ASSERT_EQ(word[i], uint64_t{1} << 40 | static_cast<uint64_t>(x)) << i;
  }
}

// Each block announces its own bytes at block 0's barrier and sends them; then all read block 0's memory.
__global__ void announce_there(uint64_t* out) {
  __shared__ uint64_t mail[kBlocks][32];
  __shared__ uint64_t barrier;
  const uint32_t rank = ptx::cluster_rank();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, kBlocks);
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  ptx::cluster_arrive_relaxed();
  ptx::cluster_wait();
  if (threadIdx.x == 0) ptx::mbarrier_arrive_expect_tx_cluster(&barrier, sizeof mail[0], 0);
  ptx::store_async_u64(&mail[rank][threadIdx.x], uint64_t{rank} << 40 | threadIdx.x, &barrier, 0);
  if (rank == 0) ptx::mbarrier_wait(&barrier, 0);
  ptx::cluster_sync();
  for (int block = 0; block < kBlocks; ++block) {
    const uint32_t address = ptx::cluster_address(ptx::smem_address(&mail[block][threadIdx.x]), 0);
    out[(rank * kBlocks + block) * 32 + threadIdx.x] = ptx::load_cluster_u64(address);
  }
  ptx::cluster_sync();
}

TEST_F(Cluster, BytesMayBeAnnouncedAtAnotherBlocksBarrier) {
  const DeviceArray<uint64_t> out(kBlocks * kBlocks * 32);
  cuda::launch(announce_there, {.grid = dim3(kBlocks), .block = dim3(32), .cluster = kBlocks}, out.data());
  const std::vector<uint64_t> got = out.read();
  for (uint64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], (i / 32 % kBlocks) << 40 | i % 32) << i;
}

constexpr int kStages = 3, kRows = 8, kInts = 64, kRounds = 30;

// Eight lanes bring a row each, a stage; lane 0 announced them all. Two consumer warps a block check every
// number. In a cluster of two a stage is free when the consumers of both blocks let it go.
__global__ void bulk_ring(const int* from, int releases, int* wrong) {
  __shared__ __align__(128) int rows[kStages][kRows][kInts];
  __shared__ device::Ring<kStages> ring;
  if (threadIdx.x == 0) ring.init(releases);
  __syncthreads();
  ptx::cluster_arrive_relaxed();
  ptx::cluster_wait();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = threadIdx.x % 32;
  from += int64_t{blockIdx.x} * kRounds * kRows * kInts;
  device::RingCursor<kStages> at;
  if (warp == 0) {
    const uint64_t policy = ptx::policy_evict_first();
    if (lane == 0) ptx::bulk_prefetch(from, kRounds * kRows * kInts * sizeof(int));
    for (int i = 0; i < kRounds; ++i, at.advance()) {
      if (lane == 0) {
        if (i < kStages)
          ring.announce(at.stage(), sizeof rows[0]);
        else
          ring.acquire(at, sizeof rows[0]);
      }
      __syncwarp();
      if (lane < kRows)
        ptx::bulk_load(rows[at.stage()][lane], from + (i * kRows + lane) * kInts, sizeof rows[0][0],
                       &ring.full[at.stage()], policy);
    }
    if (lane == 0) ring.drain(at);
    return;
  }
  for (int i = 0; i < kRounds; ++i, at.advance()) {
    ring.wait_full(at);
    for (int j = lane; j < kRows * kInts; j += 32) {
      const int want = (static_cast<int>(blockIdx.x) * kRounds + i) * kRows * kInts + j;
      if ((&rows[at.stage()][0][0])[j] != want) atomicAdd(wrong, 1);
    }
    if (warp == 1) __nanosleep(i % 5 * 300);
    ptx::fence_proxy_async_smem();
    __syncwarp();
    if (releases == 2) {
      if (lane == 0) ring.release(at.stage());
    } else if (lane < 2) {
      ring.release_cluster(at.stage(), lane);
    }
  }
}

void expect_bulk_ring(int blocks) {
  std::vector<int> source(static_cast<size_t>(blocks) * kRounds * kRows * kInts);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<int>(i);
  const DeviceArray<int> from(source), wrong(std::vector<int>{0});
  cuda::launch(bulk_ring, {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(96), .cluster = blocks},
               from.data(), 2 * blocks, wrong.data());
  EXPECT_EQ(wrong.read()[0], 0);
}

TEST_F(BulkCopy, RowsOfManyLanesCountOnOneBarrier) { expect_bulk_ring(1); }
TEST_F(BulkCopy, AStageIsFreeWhenBothBlocksLetItGo) { expect_bulk_ring(2); }

__global__ void add_up(float4* sums) {
  const float x = static_cast<float>(blockIdx.x + 1);
  ptx::reduce_add_float4(sums + threadIdx.x, make_float4(x, 2 * x, 3 * x, static_cast<float>(threadIdx.x)));
}

TEST_F(BulkCopy, MemoryAddsFourFloatsAtATime) {
  constexpr int kAdding = 100;
  const DeviceArray<float> sums(4 * 32, 0);
  cuda::launch(add_up, {.grid = dim3(kAdding), .block = dim3(32)}, reinterpret_cast<float4*>(sums.data()));
  const std::vector<float> got = sums.read();
  constexpr int kTotal = kAdding * (kAdding + 1) / 2;
  for (int i = 0; i < 32; ++i) {
    for (int e = 0; e < 3; ++e) ASSERT_EQ(got[4 * i + e], (e + 1) * kTotal);
    ASSERT_EQ(got[4 * i + 3], kAdding * i);
  }
}

// One group gives registers up, two take more than a third of the file each, and use them: all that a block
// of 384 threads has.
static_assert(128 * 40 + 256 * 232 == 384 * ptx::launch_registers(384));
__global__ void __launch_bounds__(384, 1) trade(const float* from, float* out) {
  if (threadIdx.x < 128) {
    ptx::setmaxnreg_decrease<40>();
    out[threadIdx.x] = from[threadIdx.x] + 1;
  } else {
    ptx::setmaxnreg_increase<232>();
    float x[160];
#pragma unroll
    for (int i = 0; i < 160; ++i) x[i] = from[threadIdx.x + i];
    float sum = 0;
    for (int round = 0; round < 3; ++round)
#pragma unroll
      for (int i = 0; i < 160; ++i) sum += x[i] *= 2;
    out[threadIdx.x] = sum;
  }
}

TEST_F(Registers, AreAtTheLaunchWhatTheCompilerGives) {
  cudaFuncAttributes attributes;
  LLAMITA_CUDA_CHECK(cudaFuncGetAttributes(&attributes, trade));
  EXPECT_EQ(attributes.numRegs, ptx::launch_registers(384));
}

TEST_F(Registers, ChangeHandsBetweenWarpgroups) {
  std::vector<float> source(384 + 160);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<float>(i % 97);
  const DeviceArray<float> from(source), out(384);
  cuda::launch(trade, {.grid = dim3(1), .block = dim3(384)}, from.data(), out.data());
  const std::vector<float> got = out.read();
  for (int t = 0; t < 384; ++t) {
    float want = source[t] + 1;
    if (t >= 128) {
      want = 0;
      for (int i = 0; i < 160; ++i) want += 14 * source[t + i];  // 2 + 4 + 8, whole numbers
    }
    ASSERT_EQ(got[t], want) << t;
  }
}

}  // namespace
}  // namespace llamita
