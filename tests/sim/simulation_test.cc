#include "sim/simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

namespace llamita::sim {
namespace {

// SIM_SEED=n replays one seed, SIM_SEEDS=n tries more of them than usual.
uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Simulation, RepliesEqualSoloRepliesWhateverHappens) {
  const bool one = std::getenv("SIM_SEED") != nullptr;
  const uint64_t first = number_from("SIM_SEED", 0);
  const uint64_t seeds = one ? 1 : number_from("SIM_SEEDS", 1000);
  Tally all;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    try {
      all += Simulation(seed).run();
    } catch (const std::exception& violation) {
      FAIL() << violation.what() << "; SIM_SEED=" << seed << " replays it";
    }
  }
  std::cout << all.steps << " steps, " << all.submitted << " sequences, " << all.cancelled << " cancelled ("
            << all.cut_in_step << " in a step), " << all.overdue << " overdue, " << all.preemptions
            << " preempted, " << all.prefix_hits << " prefix hits, " << all.waited_to_share
            << " waits to share, " << all.late_tokens << " late tokens, " << all.rollbacks << " rolled back, "
            << all.failed_steps << " failures\n";
  if (seeds < 1000) return;
  // The load must really have contained what it is there to test.
  EXPECT_GT(all.waited_to_share, 50);
  for (const int64_t count : {all.cancelled, all.cut_in_step, all.overdue, all.preemptions, all.prefix_hits,
                              all.late_tokens, all.rollbacks, all.failed_steps}) {
    EXPECT_GT(count, 300);
  }
}

TEST(Simulation, ASeedReplaysExactly) {
  for (const uint64_t seed : {3u, 77u, 500u}) {
    const Tally first = Simulation(seed).run(), second = Simulation(seed).run();
    EXPECT_EQ(first.steps, second.steps);
    EXPECT_EQ(first.finished, second.finished);
    EXPECT_EQ(first.preemptions, second.preemptions);
    EXPECT_EQ(first.late_tokens, second.late_tokens);
  }
}

}  // namespace
}  // namespace llamita::sim
