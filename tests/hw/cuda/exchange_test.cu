// How blocks and warpgroups hand values to each other on any card: letters, tickets, turns at named barriers.
#include "hw/cuda/device/ptx/atomic.cuh"
#include "hw/cuda/device/ptx/letters.cuh"
#include "hw/cuda/device/turns.cuh"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;
using Exchange = test::GpuTest;

constexpr int kThreads = 64, kRounds = 40;

__device__ uint32_t value_of(int block, int thread, int round) {
  return static_cast<uint32_t>(block * 1'000'000 + thread * 1000 + round);
}

// Each thread of two blocks writes to its like in the other block and waits for what that one writes. A place
// is written again two rounds later: who writes then has read the letter that its reader sent after reading.
__global__ void correspond(uint64_t* letters, bool in_pairs, int* wrong) {
  const int block = blockIdx.x, thread = threadIdx.x;
  for (int round = 1; round <= kRounds; ++round) {
    const auto tag = static_cast<uint32_t>(round);
    uint64_t* own = letters + ((round % 2 * 2 + block) * kThreads + thread) * 2;
    const uint64_t* other = letters + ((round % 2 * 2 + 1 - block) * kThreads + thread) * 2;
    ulonglong2 got{};
    if (in_pairs) {
      ptx::post_two_letters(own, value_of(block, thread, round), ~value_of(block, thread, round), tag);
      ptx::await_letters([&] {
        got = ptx::read_two_letters(other);
        return ptx::has_tag(got.x, tag) && ptx::has_tag(got.y, tag);
      });
      if (static_cast<uint32_t>(got.y) != ~value_of(1 - block, thread, round)) atomicAdd(wrong, 1);
    } else {
      ptx::post_letter(own, value_of(block, thread, round), tag);
      ptx::await_letters([&] { return ptx::has_tag(got.x = ptx::read_letter(other), tag); });
    }
    if (static_cast<uint32_t>(got.x) != value_of(1 - block, thread, round)) atomicAdd(wrong, 1);
  }
}

TEST_F(Exchange, ALetterComesWholeAndInItsRound) {
  for (const bool in_pairs : {false, true}) {
    const DeviceArray<uint64_t> letters(2 * 2 * kThreads * 2, 0);
    const DeviceArray<int> wrong(std::vector<int>{0});
    cuda::launch(correspond, {.grid = dim3(2), .block = dim3(kThreads), .cooperative = true}, letters.data(),
                 in_pairs, wrong.data());
    EXPECT_EQ(wrong.read()[0], 0);
  }
}

// Who draws the last ticket adds up what all blocks wrote before they drew.
__global__ void last_adds(int* parts, uint32_t* tickets, int* sum) {
  parts[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  if (ptx::atomic_inc_acq_rel(tickets, gridDim.x - 1) != gridDim.x - 1) return;
  int total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += parts[i];
  *sum = total;
}

TEST_F(Exchange, TheLastTicketSeesAllPartsAndTheCounterWraps) {
  constexpr int kBlocks = 500;
  const DeviceArray<uint32_t> tickets(std::vector<uint32_t>{0});
  for (int i = 0; i < 3; ++i) {
    const DeviceArray<int> parts(kBlocks), sum(1);
    cuda::launch(last_adds, {.grid = dim3(kBlocks), .block = dim3(1)}, parts.data(), tickets.data(),
                 sum.data());
    EXPECT_EQ(sum.read()[0], kBlocks * (kBlocks + 1) / 2);
    EXPECT_EQ(tickets.read()[0], 0u);
  }
}

// Groups sign a list that nothing but their turns protects.
template <int kGroups>
__global__ void sign(int* list) {
  __shared__ int signatures;
  if (threadIdx.x == 0) signatures = 0;
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / 128;
  const device::Turns<kGroups, 2> turns(group);
  for (int i = 0; i < kRounds; ++i) {
    turns.take();
    if (threadIdx.x % 128 == 0) list[signatures++] = group;
    turns.pass_on();
  }
  turns.finish(group);
}

template <int kGroups>
void expect_turns() {
  const DeviceArray<int> list(kGroups * kRounds);
  cuda::launch(sign<kGroups>, {.grid = dim3(1), .block = dim3(kGroups * 128)}, list.data());
  const std::vector<int> got = list.read();
  for (int i = 0; i < kGroups * kRounds; ++i) ASSERT_EQ(got[i], i % kGroups) << i;
}

TEST_F(Exchange, WarpgroupsTakeTurns) {
  expect_turns<2>();
  expect_turns<3>();
}

}  // namespace
}  // namespace llamita
