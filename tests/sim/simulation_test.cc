#include "sim/simulation.h"

#include <gtest/gtest.h>

#include <iostream>

#include "sim/seeds.h"

namespace llamita::sim {
namespace {

TEST(Simulation, RepliesEqualSoloRepliesWhateverHappens) {
  Tally all;
  int64_t long_seeds = 0, steps_of_long = 0;
  for_seeds([&](uint64_t seed) {
    Simulation simulation(seed);
    if (short_only() && simulation.runs_long()) return false;
    const Tally one = simulation.run();
    all += one;
    long_seeds += one.steps < 1000 ? 0 : 1;
    steps_of_long += one.steps < 1000 ? 0 : one.steps;
    return true;
  });
  std::cout << all.steps << " steps, " << all.submitted << " sequences, " << all.cancelled << " cancelled ("
            << all.cut_in_step << " in a step), " << all.overdue << " overdue, " << all.preemptions
            << " preempted, " << all.prefix_hits << " prefix hits, " << all.waited_to_share
            << " waits to share, " << all.late_tokens << " late tokens, " << all.rollbacks << " rolled back, "
            << all.failed_steps << " failures, " << all.forced << " sequences that push others out ("
            << all.forced_out << " steps with somebody pushed out); " << long_seeds
            << " seeds of 1,000 steps and more, " << (long_seeds > 0 ? steps_of_long / long_seeds : 0)
            << " in the mean\n";
  if (!all_seeds()) return;
  // The load must really have contained what it is there to test.
  EXPECT_GT(all.waited_to_share, 50);
  EXPECT_GT(long_seeds, 40);
  EXPECT_GT(steps_of_long / std::max<int64_t>(1, long_seeds), 2000);
  for (const int64_t count : {all.cancelled, all.cut_in_step, all.overdue, all.preemptions, all.prefix_hits,
                              all.late_tokens, all.rollbacks, all.failed_steps, all.forced, all.forced_out}) {
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
    EXPECT_EQ(first.events.value(), second.events.value());
  }
}

}  // namespace
}  // namespace llamita::sim
