// Which seeds a simulation's test runs: SIM_SEED=n replays one, SIM_SEEDS=n tries more of them than usual.
// Instrumented code, which takes several times as long, runs as many seeds as any, and leaves out the one in
// four that goes on for thousands of steps; SIM_SHORT=1 does so elsewhere.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <exception>

namespace llamita::sim {

inline constexpr uint64_t kSeeds = 1000;

inline uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

inline uint64_t seeds() { return std::getenv("SIM_SEED") ? 1 : number_from("SIM_SEEDS", kSeeds); }

inline bool short_only() {
#ifdef LLAMITA_SANITIZED
  return std::getenv("SIM_SEED") == nullptr;
#else
  return std::getenv("SIM_SHORT") != nullptr;
#endif
}

// Enough of them, and of every kind, to find in the load what must be in it.
inline bool all_seeds() { return seeds() >= 1000 && !short_only(); }

// `run` says whether it took the seed or left it out, which then does not count.
template <class Run>
void for_seeds(const Run& run) {
  uint64_t taken = 0;
  for (uint64_t seed = number_from("SIM_SEED", 0); taken < seeds(); ++seed) {
    try {
      taken += run(seed) ? 1 : 0;
    } catch (const std::exception& violation) {
      FAIL() << violation.what() << "; SIM_SEED=" << seed << " replays it";
    }
  }
}

}  // namespace llamita::sim
