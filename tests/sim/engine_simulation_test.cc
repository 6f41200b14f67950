#include "sim/engine_simulation.h"

#include <gtest/gtest.h>

#include <iostream>

#include "sim/seeds.h"

namespace llamita::sim {
namespace {

TEST(EngineSimulation, EveryRequestEndsOnceAndIsCountedWhateverHappens) {
  EngineTally all;
  for_seeds([&](uint64_t seed) {
    EngineSimulation simulation(seed);
    if (short_only() && simulation.runs_long()) return false;
    all += simulation.run();
    return true;
  });
  std::cout << all.steps << " steps, " << all.submitted << " requests, " << all.tokens << " tokens, "
            << all.finished << " finished, " << all.cancelled << " cancelled, " << all.overdue << " overdue ("
            << all.overdue_unbegun << " choices unbegun; " << all.begun_in_time
            << " requests begun in time), " << all.failed << " failed, " << all.preemptions
            << " preemptions, " << all.forced << " requests that push others out, " << all.wall_jumps
            << " settings of the wall clock, " << all.sleeps << " sleeps, " << all.compared
            << " compared with a request alone, " << all.stopped << " ended by a signal, " << all.lost
            << " by a lost device\n";
  if (!all_seeds()) return;
  // The load must really have contained what it is there to test.
  for (const int64_t count : {all.finished, all.cancelled, all.overdue, all.overdue_unbegun, all.failed,
                              all.preemptions, all.forced, all.wall_jumps, all.compared, all.begun_in_time}) {
    EXPECT_GT(count, 300);
  }
  for (const int64_t count : {all.sleeps, all.stopped, all.lost}) EXPECT_GT(count, 50);
}

TEST(EngineSimulation, ASeedReplaysExactly) {
  for (const uint64_t seed : {3u, 77u, 500u}) {
    const EngineTally first = EngineSimulation(seed).run(), second = EngineSimulation(seed).run();
    EXPECT_EQ(first.steps, second.steps);
    EXPECT_EQ(first.tokens, second.tokens);
    EXPECT_EQ(first.overdue, second.overdue);
    EXPECT_EQ(first.preemptions, second.preemptions);
    EXPECT_EQ(first.events.value(), second.events.value());
  }
}

}  // namespace
}  // namespace llamita::sim
