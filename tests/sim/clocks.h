// The process's clocks as a simulation wants them: from the first SimulatedClocks on, std::chrono's clocks
// show what it says, until it is gone. clocks.cc takes the place of the C library's clock_gettime(), so
// whoever asks for the time is told so, by whatever way. One at a time, and no thread may sleep or wait with
// a timeout meanwhile.
#pragma once

#include <chrono>

namespace llamita::sim {

class SimulatedClocks {
 public:
  SimulatedClocks();
  ~SimulatedClocks();
  SimulatedClocks(const SimulatedClocks&) = delete;
  SimulatedClocks& operator=(const SimulatedClocks&) = delete;

  // Time passes; a machine that sleeps wakes up with a large step.
  void pass(std::chrono::nanoseconds time);
  // Somebody sets the wall clock, forward or backward. The monotonic one does not notice.
  void set_wall(std::chrono::nanoseconds by);
};

}  // namespace llamita::sim
