#include "base/pinning.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "base/cat.h"
#include "base/usable_cores.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

using Clock = std::chrono::steady_clock;
using Cpus = std::vector<int>;

TEST(Pinning, WordsOfTheOption) {
  EXPECT_EQ(parse_pinning("auto", "--pin"), Pinning::automatic);
  EXPECT_EQ(parse_pinning("on", "--pin"), Pinning::on);
  EXPECT_EQ(parse_pinning("off", "--pin"), Pinning::off);
  EXPECT_ERROR(parse_pinning("yes", "--pin"), "--pin: expected auto, on or off, got 'yes'");
}

TEST(Pinning, CoresComeFirstAndTheirSecondThreadsLast) {
  const test::TempDir dir;
  const auto set_siblings = [&](int cpu, const std::string& list) {
    std::filesystem::create_directories(dir.path() / cat("cpu", cpu, "/topology"));
    dir.write(cat("cpu", cpu, "/topology/thread_siblings_list"), list + "\n");
  };
  for (const int cpu : {0, 1}) set_siblings(cpu, "0-1");
  for (const int cpu : {2, 3}) set_siblings(cpu, "2-3");
  for (const int cpu : {4, 12}) set_siblings(cpu, "4,12");
  const std::string topology = dir.path().string();
  EXPECT_EQ(pin_order({0, 1, 2, 3, 4, 12}, topology), (Cpus{0, 2, 4, 1, 3, 12}));
  EXPECT_EQ(pin_order({1, 2, 3}, topology), (Cpus{1, 2, 3}));
  // Nothing is known of 7 and 8: they are cores of their own.
  EXPECT_EQ(pin_order({2, 3, 7, 8}, topology), (Cpus{2, 7, 8, 3}));
  EXPECT_EQ(pin_order({}, topology), Cpus{});
}

std::vector<Cpus> masks_of(ThreadPool& pool) {
  std::vector<Cpus> masks(static_cast<size_t>(pool.threads()));  // each thread its own element
  pool.run([&](int thread) { masks[static_cast<size_t>(thread)] = allowed_cpus(); });
  return masks;
}

void expect_pinned_apart(const std::vector<Cpus>& masks, const Cpus& allowed) {
  EXPECT_EQ(masks[0], allowed) << "the caller's thread";
  Cpus taken;
  for (size_t thread = 1; thread < masks.size(); ++thread) {
    ASSERT_EQ(masks[thread].size(), 1u) << "worker " << thread;
    EXPECT_NE(std::find(allowed.begin(), allowed.end(), masks[thread][0]), allowed.end());
    EXPECT_EQ(std::find(taken.begin(), taken.end(), masks[thread][0]), taken.end()) << "two on one core";
    taken.push_back(masks[thread][0]);
  }
}

TEST(Pinning, WorkersKeepToCoresOfTheirOwnAndTheCallerIsLeftFree) {
  const Cpus allowed = allowed_cpus();
  ThreadPool off(0), on(0, Pinning::on);
  for (const Cpus& mask : masks_of(off)) EXPECT_EQ(mask, allowed);
  expect_pinned_apart(masks_of(on), allowed);
  EXPECT_EQ(usable_cores(), on.threads()) << "what a later pool may have";
}

TEST(Pinning, AutomaticPinsWhereEveryCoreHasAThread) {
  const Cpus allowed = allowed_cpus();
  if (allowed.size() < 2) GTEST_SKIP() << "one core";
  // A core to spare: the system may move workers there.
  EXPECT_EQ(pin_cpus(Pinning::automatic, static_cast<int>(allowed.size()) - 1), Cpus{});
  EXPECT_EQ(pin_cpus(Pinning::off, static_cast<int>(allowed.size())), Cpus{});
  if (!std::filesystem::exists("/proc/thread-self/schedstat")) {
    EXPECT_EQ(pin_cpus(Pinning::automatic, static_cast<int>(allowed.size())), Cpus{});
    GTEST_SKIP() << "the kernel does not say how long threads wait";
  }
  Cpus cpus = pin_cpus(Pinning::automatic, static_cast<int>(allowed.size()));
  std::sort(cpus.begin(), cpus.end());
  EXPECT_EQ(cpus, allowed);
}

// Calls `body` on a thread of its own, whose mask is nobody else's.
template <class Body>
void on_a_thread(Body body) {
  std::thread thread(body);
  thread.join();
}

// A thread that never pauses, on one CPU.
class Rival {
 public:
  explicit Rival(int cpu)
      : thread_([this, cpu] {
          const CorePin pin(cpu, Pinning::on);
          while (!stop_) {
          }
        }) {}
  ~Rival() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Works and looks, as a worker does, until `done` or for some seconds.
template <class Done>
bool look_until(CorePin& pin, Done done) {
  const auto end = Clock::now() + std::chrono::seconds(20);
  while (!done() && Clock::now() < end) pin.look();
  return done();
}

TEST(Pinning, AWorkerWhoseCoreIsTakenLetsGoOfItUnlessToldToStay) {
  if (!std::filesystem::exists("/proc/thread-self/schedstat")) GTEST_SKIP();
  const Cpus allowed = allowed_cpus();
  const int cpu = allowed.back();
  const Rival rival(cpu);
  on_a_thread([&] {
    CorePin pin(cpu, Pinning::automatic);
    EXPECT_EQ(allowed_cpus(), Cpus{cpu});
    EXPECT_TRUE(look_until(pin, [&] { return !pin.pinned(); }));
    EXPECT_EQ(allowed_cpus(), allowed);
    // And comes back when some time has passed.
    EXPECT_TRUE(look_until(pin, [&] { return pin.pinned(); }));
  });
  on_a_thread([&] {
    CorePin pin(cpu, Pinning::on);
    const auto end = Clock::now() + 4 * CorePin::kWindow;
    look_until(pin, [&] { return Clock::now() >= end; });
    EXPECT_EQ(allowed_cpus(), Cpus{cpu});
  });
}

TEST(Pinning, AMaskThatSomebodyElseSetsStays) {
  const Cpus allowed = allowed_cpus();
  if (allowed.size() < 2) GTEST_SKIP() << "one core";
  on_a_thread([&] {
    { const CorePin pin(allowed[1], Pinning::automatic); }
    EXPECT_EQ(allowed_cpus(), allowed) << "what it was before";
    {
      const CorePin pin(allowed[1], Pinning::automatic);
      cpu_set_t other;  // as taskset would
      CPU_ZERO(&other);
      CPU_SET(static_cast<size_t>(allowed[0]), &other);
      ASSERT_EQ(sched_setaffinity(0, sizeof other, &other), 0);
    }
    EXPECT_EQ(allowed_cpus(), Cpus{allowed[0]});
    const CorePin outside(allowed[1], Pinning::on);
    EXPECT_FALSE(outside.pinned()) << "a core that it may not have";
  });
}

}  // namespace
}  // namespace llamita
