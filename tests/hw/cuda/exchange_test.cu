// How blocks and warps hand values to each other on any card: letters, tickets, named barriers and turns at
// them, the count of a ring; where shared memory begins; the clock that ends a wait.
#include "hw/cuda/device/pipeline.cuh"
#include "hw/cuda/device/ptx/atomic.cuh"
#include "hw/cuda/device/ptx/letters.cuh"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/device/shared_storage.cuh"
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

// Warp 0 writes and counts at barrier 1 without waiting, warp 1 waits there and reads; back at barrier 2
// before the place is written again. Warp 2 has no part in it.
__global__ void hand_over(int* seen) {
  __shared__ int place[32];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (warp == 2) return;
  for (int round = 0; round < kRounds; ++round) {
    if (warp == 0) {
      place[lane] = round * 32 + lane;
      ptx::named_barrier_arrive(1, 64);
      ptx::named_barrier_sync(2, 64);
    } else {
      ptx::named_barrier_sync(1, 64);
      seen[round * 32 + lane] = place[31 - lane];
      ptx::named_barrier_arrive(2, 64);
    }
  }
}

TEST_F(Exchange, ANamedBarrierCountsWhoArrivesAndHoldsWhoSyncs) {
  const DeviceArray<int> seen(kRounds * 32);
  cuda::launch(hand_over, {.grid = dim3(1), .block = dim3(96)}, seen.data());
  const std::vector<int> got = seen.read();
  for (int i = 0; i < kRounds * 32; ++i) ASSERT_EQ(got[i], i / 32 * 32 + 31 - i % 32) << i;
}

// Stage and both parities of a cursor that counts, and of one made for the iteration.
__global__ void count_rounds(uint32_t* counted, uint32_t* made) {
  device::RingCursor<3> at;
  const auto look = [](const device::RingCursor<3>& cursor) {
    return cursor.stage() | cursor.full_parity() << 8 | cursor.empty_parity() << 16;
  };
  for (uint32_t i = 0; i < kRounds; ++i, at.advance()) {
    counted[i] = look(at);
    made[i] = look(device::RingCursor<3>(i));
  }
}

TEST_F(Exchange, ARingsParitiesFollowFromTheRound) {
  const DeviceArray<uint32_t> counted(kRounds), made(kRounds);
  cuda::launch(count_rounds, {.grid = dim3(1), .block = dim3(1)}, counted.data(), made.data());
  const auto c = counted.read(), m = made.read();
  for (uint32_t i = 0; i < kRounds; ++i) {
    const uint32_t odd = i / 3 % 2, want = i % 3 | odd << 8 | (1 - odd) << 16;
    ASSERT_EQ(c[i], want) << i;
    ASSERT_EQ(m[i], want) << i;
  }
}

struct Whole {
  uint8_t bytes[3 * device::kSwizzleAlign];
};

// Writes all of a storage that lies behind shared memory of another kind, and reads both.
__global__ void place_storage(uint32_t* at, uint32_t* in_front, uint8_t* bytes) {
  __shared__ uint32_t other[33];
  extern __shared__ uint8_t dynamic_begin[];
  for (int i = static_cast<int>(threadIdx.x); i < 33; i += 32) other[i] = 1000 + i;
  auto& whole = device::shared_storage<Whole>();
  for (size_t i = threadIdx.x; i < sizeof whole; i += 32) whole.bytes[i] = static_cast<uint8_t>(i % 251);
  __syncwarp();
  for (int i = static_cast<int>(threadIdx.x); i < 33; i += 32) in_front[i] = other[i];
  for (size_t i = threadIdx.x; i < sizeof whole; i += 32) bytes[i] = whole.bytes[i];
  at[0] = ptx::smem_address(&whole);
  at[1] = at[0] - ptx::smem_address(dynamic_begin);
}

TEST_F(Exchange, AStorageBeginsAtABorderAndEndsWithinItsBytes) {
  const DeviceArray<uint32_t> at(2), in_front(33);
  const DeviceArray<uint8_t> bytes(sizeof(Whole));
  cuda::launch(place_storage, {.grid = dim3(1), .block = dim3(32), .smem = device::smem_bytes<Whole>()},
               at.data(), in_front.data(), bytes.data());
  const auto place = at.read(), front = in_front.read();
  const auto got = bytes.read();
  EXPECT_EQ(place[0] % device::kSwizzleAlign, 0u);
  EXPECT_LE(place[1] + sizeof(Whole), device::smem_bytes<Whole>());
  for (uint32_t i = 0; i < 33; ++i) ASSERT_EQ(front[i], 1000 + i);
  for (size_t i = 0; i < sizeof(Whole); ++i) ASSERT_EQ(got[i], i % 251) << i;
}

// By how many nanoseconds the clock moves in as many of the multiprocessor's clocks.
__global__ void measure_time(int64_t clocks, uint64_t* ns) {
  const int64_t from = clock64();
  const uint64_t begin = ptx::global_timer_ns();
  while (clock64() - from < clocks) {
  }
  *ns = ptx::global_timer_ns() - begin;
}

TEST_F(Exchange, TheTimerCountsNanoseconds) {
  constexpr int64_t kClocks = 20'000'000;  // 8 ms at 2.5 GHz, 100 ms at 0.2
  const DeviceArray<uint64_t> ns(1);
  cuda::launch(measure_time, {.grid = dim3(1), .block = dim3(1)}, kClocks, ns.data());
  const uint64_t got = ns.read()[0];
  EXPECT_GE(got, 5'000'000u);
  EXPECT_LE(got, 200'000'000u);
}

}  // namespace
}  // namespace llamita
