// Which seeds a simulation's test runs: SIM_SEED=n replays one, SIM_SEEDS=n tries more of them than usual.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <exception>

namespace llamita::sim {

#ifdef LLAMITA_SANITIZED
inline constexpr uint64_t kSeeds = 200;  // instrumented code takes several times as long
#else
inline constexpr uint64_t kSeeds = 1000;
#endif

inline uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

inline uint64_t seeds() { return std::getenv("SIM_SEED") ? 1 : number_from("SIM_SEEDS", kSeeds); }

// Enough of them to find in the load what must be in it.
inline bool all_seeds() { return seeds() >= 1000; }

template <class Run>
void for_seeds(const Run& run) {
  const uint64_t first = number_from("SIM_SEED", 0);
  for (uint64_t seed = first; seed < first + seeds(); ++seed) {
    try {
      run(seed);
    } catch (const std::exception& violation) {
      FAIL() << violation.what() << "; SIM_SEED=" << seed << " replays it";
    }
  }
}

}  // namespace llamita::sim
