// A simulation over code that has a bug (seeded_bugs.cmake): exits 0 when one of the seeds finds it, be it as
// a broken promise or by one of the code's own checks. LLAMITA_SIMULATION: which one.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "sim/engine_simulation.h"
#include "sim/simulation.h"

namespace {

void caught_by_check(int) {
  std::_Exit(0);  // what the check had to say is printed already
}

}  // namespace

int main() {
  std::signal(SIGABRT, caught_by_check);
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    try {
      llamita::sim::LLAMITA_SIMULATION(seed).run();
    } catch (const std::exception& violation) {
      std::printf("seed %d: %s\n", static_cast<int>(seed), violation.what());
      return 0;
    }
  }
  std::printf("nothing was noticed\n");
  return 1;
}
