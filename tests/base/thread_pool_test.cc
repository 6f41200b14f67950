#include "base/thread_pool.h"

#include <gtest/gtest.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "base/timer.h"
#include "base/usable_cores.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

TEST(ThreadPool, NeverHasMoreThreadsThanCores) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_EQ(ThreadPool(0).threads(), usable_cores());
  EXPECT_EQ(ThreadPool(1).threads(), 1);
  EXPECT_EQ(ThreadPool(100000).threads(), usable_cores());
}

TEST(ThreadPool, RunCallsEveryThreadOnce) {
  ThreadPool pool;
  for (int round = 0; round < 2000; ++round) {
    std::vector<int> calls(static_cast<size_t>(pool.threads()));  // each thread its own element
    pool.run([&](int thread) { ++calls[static_cast<size_t>(thread)]; });
    for (const int count : calls) ASSERT_EQ(count, 1) << "round " << round;
  }
}

TEST(ThreadPool, CountsTheRegionsThatWorkersAreCalledTo) {
  ThreadPool one(1), all(0);
  const auto nothing = [](int64_t, int64_t) {};
  one.parallel_for(10, 1, nothing);
  EXPECT_EQ(one.regions(), 0u);
  all.parallel_for(10, 10, nothing);  // one chunk
  all.parallel_for(0, 1, nothing);
  EXPECT_EQ(all.regions(), 0u);
  all.parallel_for(10, 1, nothing);
  all.run([](int) {});
  EXPECT_EQ(all.regions(), all.threads() > 1 ? 2u : 0u);
}

TEST(ThreadPool, WorkersThatWentToSleepWakeUp) {
  ThreadPool pool;
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int> calls{0};
    pool.run([&](int) { ++calls; });
    ASSERT_EQ(calls, pool.threads());
  }
}

using Chunks = std::multiset<std::pair<int64_t, int64_t>>;

Chunks chunks_of(ThreadPool& pool, int64_t n, int64_t grain) {
  Chunks chunks;
  std::mutex mutex;
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex);
    chunks.emplace(begin, end);
  });
  return chunks;
}

TEST(ThreadPool, ChunksCoverTheRangeAndDoNotDependOnThreads) {
  ThreadPool one(1), all(0);
  for (const int64_t n : {0, 1, 2, 7, 64, 1000}) {
    for (const int64_t grain : {1, 2, 3, 64, 5000}) {
      Chunks expected;
      for (int64_t begin = 0; begin < n; begin += grain) expected.emplace(begin, std::min(begin + grain, n));
      // A range that one chunk covers, and a pool of one thread, are the same chunks.
      ASSERT_EQ(chunks_of(one, n, grain), expected) << n << " by " << grain;
      ASSERT_EQ(chunks_of(all, n, grain), expected) << n << " by " << grain;
    }
  }
}

TEST(ThreadPool, AnExceptionOfAnyThreadReachesTheCallerAndThePoolLivesOn) {
  ThreadPool pool;
  for (int thrower = 0; thrower < pool.threads(); ++thrower) {
    EXPECT_THROW(pool.run([&](int thread) {
      if (thread == thrower) throw std::runtime_error("thrown");
    }),
                 std::runtime_error);
    EXPECT_THROW(pool.parallel_for(100, 1, [](int64_t, int64_t) { throw std::logic_error("all"); }),
                 std::logic_error);
    std::atomic<int> calls{0};
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, pool.threads());
  }
}

TEST(ThreadPool, SeveralPoolsShareTheCores) {
  std::vector<std::thread> owners;
  std::atomic<int64_t> sum{0};
  for (int owner = 0; owner < 4; ++owner) {
    owners.emplace_back([&sum] {
      ThreadPool pool;
      for (int round = 0; round < 200; ++round) {
        pool.parallel_for(100, 7, [&](int64_t begin, int64_t end) { sum += end - begin; });
      }
    });
  }
  for (std::thread& owner : owners) owner.join();
  EXPECT_EQ(sum, 4 * 200 * 100);
}

#if defined(__linux__)
class ThreadPoolPinned : public testing::TestWithParam<Pinning> {};

// A worker that hardly ever gets its core: it gives way to a thread that never pauses.
TEST_P(ThreadPoolPinned, AWorkerWithoutACoreHoldsNobodyUp) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  ThreadPool pool(2, GetParam());
  if (pool.threads() < 2) GTEST_SKIP() << "one core";
  const auto pin_to = [](int core) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(core, &only);
    return sched_setaffinity(0, sizeof only, &only);
  };
  std::atomic<bool> stop{false};
  std::thread rival([&] {
    pin_to(cores[1]);
    while (!stop) {
    }
  });
  pool.run([&](int thread) {
    if (thread == 0) return;
    const sched_param none{};
    EXPECT_EQ(sched_setscheduler(0, SCHED_IDLE, &none), 0);
    EXPECT_EQ(pin_to(cores[1]), 0);
  });
  pin_to(cores[0]);
  // Waiting for the worker takes some milliseconds a region at the least. The machine may be busy with
  // another test for a while.
  std::atomic<int64_t> sum{0};
  double seconds = 0;
  int attempts = 0;
  do {
    const Stopwatch watch;
    for (int round = 0; round < 2000; ++round) {
      pool.parallel_for(8, 1, [&](int64_t from, int64_t to) { sum += to - from; });
    }
    seconds = watch.seconds();
  } while (++attempts < 3 && seconds > 2.0);
  stop = true;
  rival.join();
  EXPECT_EQ(sched_setaffinity(0, sizeof allowed, &allowed), 0);
  EXPECT_EQ(sum, attempts * 8 * 2000);
  EXPECT_LT(seconds, 2.0);
}

// A competitor of equal right on every core: each region may lose a time slice, but not more.
TEST_P(ThreadPoolPinned, CompetitorsCostTheirShareOfTheCoresAndNoMore) {
  ThreadPool pool(0, GetParam());
  if (pool.threads() < 2) GTEST_SKIP() << "one core";
  std::atomic<bool> stop{false};
  std::vector<std::thread> rivals;
  for (int i = 0; i < pool.threads(); ++i) {
    rivals.emplace_back([&] {
      while (!stop) {
      }
    });
  }
  std::atomic<int64_t> sum{0};
  const auto begin = std::chrono::steady_clock::now();
  for (int round = 0; round < 2000; ++round) {
    pool.parallel_for(64, 1, [&](int64_t from, int64_t to) {
      const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(2);
      while (std::chrono::steady_clock::now() < until) {
      }
      sum += to - from;
    });
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  stop = true;
  for (std::thread& rival : rivals) rival.join();
  EXPECT_EQ(sum, 64 * 2000);
  EXPECT_LT(seconds.count(), 20.0);
}

INSTANTIATE_TEST_SUITE_P(Pinnings, ThreadPoolPinned,
                         testing::Values(Pinning::off, Pinning::automatic, Pinning::on));
#endif

TEST(UsableCores, CgroupQuotasAreRoundedUpAndTheSmallestOnTheWayToTheRootCounts) {
  const test::TempDir dir;
  const std::string mount = dir.path().string();
  std::filesystem::create_directories(mount + "/a/b");
  std::filesystem::create_directories(mount + "/cpu/job");
  EXPECT_EQ(cgroup_core_limit("0::/a/b\n", mount), 0);
  dir.write("a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_core_limit("0::/a/b\n", mount), 0);
  dir.write("a/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_core_limit("0::/a/b\n", mount), 3);
  dir.write("a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_core_limit("0::/a/b\n", mount), 1);
  dir.write("cpu/job/cpu.cfs_quota_us", "-1\n");
  dir.write("cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_core_limit("4:memory:/job\n3:cpu,cpuacct:/job\n", mount), 0);
  dir.write("cpu/job/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(cgroup_core_limit("4:memory:/job\n3:cpu,cpuacct:/job\n", mount), 2);
  EXPECT_EQ(cgroup_core_limit("3:cpuset:/job\n", mount), 0);
  // The path of the host, seen from inside a container: the container's own root holds its limit.
  dir.write("cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_core_limit("0::/docker/gone\n", mount), 4);
}

}  // namespace
}  // namespace llamita
