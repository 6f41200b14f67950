#include "sim/clocks.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>

namespace {

constexpr int64_t kSecond = 1'000'000'000;
// Both begin at the same moment, so that code which takes one for the other fails by what the wall clock is
// set, too.
constexpr int64_t kBegin = 1'000'000 * kSecond;

std::atomic<bool> simulated = false;
std::atomic<int64_t> monotonic_ns = kBegin, wall_ns = kBegin;

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (!simulated) return static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  const int64_t now = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? wall_ns : monotonic_ns;
  time->tv_sec = now / kSecond;
  time->tv_nsec = now % kSecond;
  return 0;
}

namespace llamita::sim {

SimulatedClocks::SimulatedClocks() {
  monotonic_ns = wall_ns = kBegin;
  simulated = true;
}

SimulatedClocks::~SimulatedClocks() { simulated = false; }

void SimulatedClocks::pass(std::chrono::nanoseconds time) {
  monotonic_ns += time.count();
  wall_ns += time.count();
}

void SimulatedClocks::set_wall(std::chrono::nanoseconds by) { wall_ns += by.count(); }

}  // namespace llamita::sim
