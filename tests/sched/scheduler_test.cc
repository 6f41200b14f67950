#include "sched/scheduler.h"

#include <gtest/gtest.h>

#include <numeric>

namespace llamita::sched {
namespace {

std::vector<int32_t> prompt(int length, int first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(Scheduler, PromptsAreCutIntoChunksBesideRunningReplies) {
  Scheduler scheduler({.batch_tokens = 8, .batch_sequences = 4, .context = 100}, 32, 4);
  const SequenceId a = scheduler.add(prompt(3), {});
  const SequenceId b = scheduler.add(prompt(20, 50), {});
  Batch batch = scheduler.plan();
  ASSERT_EQ(batch.chunks.size(), 2u);
  EXPECT_TRUE(batch.chunks[0].sample);
  EXPECT_EQ(batch.chunks[1].end, 5);
  EXPECT_FALSE(batch.chunks[1].sample);
  scheduler.commit();
  scheduler.append(a, 7);
  batch = scheduler.plan();
  ASSERT_EQ(batch.chunks.size(), 2u);
  EXPECT_EQ(batch.chunks[0].begin, 3);
  EXPECT_EQ(batch.chunks[0].end, 4);
  EXPECT_EQ(batch.chunks[1].begin, 5);
  EXPECT_EQ(batch.chunks[1].end, 12) << "seven tokens are left beside the reply's one";
  EXPECT_EQ(batch.tokens.size(), 8u);
  EXPECT_EQ(batch.tokens[0], 7);
  scheduler.commit();
  scheduler.finish(a);
  scheduler.finish(b);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_TRUE(scheduler.plan().empty());
}

TEST(Scheduler, TheLastAdmittedGoesBackWhenBlocksRunOut) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 100}, 6, 4);
  const SequenceId a = scheduler.add(prompt(8), {});
  const SequenceId b = scheduler.add(prompt(8, 50), {});
  scheduler.plan();
  scheduler.commit();
  EXPECT_EQ(scheduler.running(), 2);
  scheduler.append(a, 1);
  scheduler.append(b, 2);
  for (int i = 0; i < 3; ++i) {  // each takes its third block, then their room is used up
    scheduler.plan();
    scheduler.commit();
    scheduler.append(a, 1);
    scheduler.append(b, 2);
  }
  scheduler.plan();
  scheduler.commit();
  scheduler.append(a, 1);
  scheduler.append(b, 2);
  const Batch batch = scheduler.plan();
  ASSERT_EQ(batch.chunks.size(), 1u);
  EXPECT_EQ(batch.chunks[0].sequence, a);
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_EQ(scheduler.preemptions(), 1);
  scheduler.commit();
  scheduler.finish(a);
  const Batch again = scheduler.plan();
  ASSERT_EQ(again.chunks.size(), 1u);
  EXPECT_EQ(again.chunks[0].begin, 8) << "the block that made room was its last";
  EXPECT_EQ(again.chunks[0].end, 13) << "prompt and reply are computed again";
  scheduler.commit();
  scheduler.finish(b);
  EXPECT_EQ(scheduler.check_integrity(), "");
}

TEST(Scheduler, BlocksOutliveTheStepThatReadsThem) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 100}, 4, 4);
  const SequenceId a = scheduler.add(prompt(16), {});
  scheduler.plan();
  scheduler.finish(a);  // cancelled while its step runs
  EXPECT_EQ(scheduler.pool().free_blocks(), 0);
  EXPECT_EQ(scheduler.check_integrity(), "");
  scheduler.commit();
  EXPECT_EQ(scheduler.pool().free_blocks(), 4);
}

TEST(Scheduler, AnAbandonedStepCountsForNothing) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 100}, 4, 4);
  const SequenceId a = scheduler.add(prompt(5), {});
  scheduler.plan();
  scheduler.abandon();
  const Batch again = scheduler.plan();
  ASSERT_EQ(again.chunks.size(), 1u);
  EXPECT_EQ(again.chunks[0].begin, 0);
  scheduler.commit();
  scheduler.finish(a);
}

std::vector<SequenceId> planned(const Batch& batch) {
  std::vector<SequenceId> ids;
  for (const Batch::Chunk& chunk : batch.chunks) ids.push_back(chunk.sequence);
  return ids;
}

TEST(Scheduler, ABetterPriorityTakesTheSlotOfAWorseOne) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 2, .context = 100}, 32, 4);
  const SequenceId low = scheduler.add(prompt(8), {.priority = 2});
  const SequenceId middle = scheduler.add(prompt(8, 50), {.priority = 1});
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{middle, low}));
  scheduler.commit();
  scheduler.append(low, 1);
  scheduler.append(middle, 1);
  const SequenceId high = scheduler.add(prompt(8, 100), {.priority = 0});
  const SequenceId equal = scheduler.add(prompt(8, 150), {.priority = 1});
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{high, middle}));
  EXPECT_EQ(scheduler.preemptions(), 1);
  scheduler.commit();
  scheduler.append(high, 1);
  scheduler.finish(middle);
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{high, equal}));
  scheduler.commit();
  scheduler.finish(high);
  scheduler.finish(equal);
  const Batch last = scheduler.plan();
  EXPECT_EQ(planned(last), (std::vector{low}));
  EXPECT_EQ(last.chunks[0].begin, 8) << "what it had computed was kept";
  scheduler.commit();
  scheduler.finish(low);
  EXPECT_EQ(scheduler.check_integrity(), "");
}

TEST(Scheduler, RunningSequencesShareWhatTheyHaveComputed) {
  Scheduler scheduler({.batch_tokens = 8, .batch_sequences = 4, .context = 100}, 32, 4);
  const SequenceId a = scheduler.add(prompt(16), {});
  const SequenceId other_salt = scheduler.add(prompt(16), {.salt = "x"});
  const SequenceId same = scheduler.add(prompt(16), {});
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{a}));
  scheduler.commit();
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{a}));
  scheduler.commit();
  scheduler.append(a, 1);
  Batch batch = scheduler.plan();
  EXPECT_EQ(planned(batch), (std::vector{a, other_salt}));
  EXPECT_EQ(batch.chunks[1].begin, 0) << "another salt shares nothing";
  scheduler.commit();
  scheduler.append(a, 1);
  scheduler.finish(other_salt);
  batch = scheduler.plan();
  EXPECT_EQ(planned(batch), (std::vector{a, same}));
  EXPECT_EQ(batch.chunks[1].begin, 12) << "the last token is computed for its logits";
  EXPECT_EQ(scheduler.pool().shared_blocks(), 3);
  scheduler.commit();
  scheduler.finish(a);
  scheduler.finish(same);
  EXPECT_EQ(scheduler.check_integrity(), "");
}

TEST(Scheduler, AStepMayBePlannedBeforeTheTokenOfTheOneBeforeIsKnown) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 100, .steps_under_way = 2}, 32,
                      4);
  const SequenceId a = scheduler.add(prompt(5), {});
  const SequenceId bound = scheduler.add(prompt(5, 50), {.overlap = false});
  EXPECT_EQ(scheduler.plan().chunks.size(), 2u);
  const Batch ahead = scheduler.plan();
  ASSERT_EQ(planned(ahead), (std::vector{a}));
  EXPECT_EQ(ahead.tokens, (std::vector{kTokenOfStepBefore}));
  EXPECT_EQ(ahead.chunks[0].begin, 5);
  scheduler.commit();
  scheduler.finish(a);  // with the token of the first step: the second was for nothing
  scheduler.append(bound, 7);
  EXPECT_EQ(scheduler.pool().blocks() - scheduler.pool().free_blocks() - scheduler.pool().idle_blocks(), 4)
      << "the second step still has its blocks";
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{bound}));
  scheduler.commit();
  EXPECT_EQ(scheduler.pool().blocks() - scheduler.pool().free_blocks() - scheduler.pool().idle_blocks(), 2);
  scheduler.commit();
  scheduler.finish(bound);
  EXPECT_EQ(scheduler.check_integrity(), "");
}

TEST(Scheduler, NoStepIsPlannedPastTheLengthAtWhichItsCallerEndsASequence) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 100, .steps_under_way = 2}, 32,
                      4);
  const SequenceId a = scheduler.add(prompt(5), {.longest = 7});  // two tokens are wanted
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{a}));
  EXPECT_EQ(planned(scheduler.plan()), (std::vector{a}));
  scheduler.commit();
  scheduler.append(a, 1);
  EXPECT_TRUE(scheduler.plan().empty()) << "its last token is expected";
  scheduler.commit();
  scheduler.finish(a);
  EXPECT_EQ(scheduler.check_integrity(), "");
}

TEST(Scheduler, TokensCanBeTakenBack) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 100}, 32, 4);
  const SequenceId a = scheduler.add(prompt(10), {});
  scheduler.plan();
  scheduler.commit();
  scheduler.append(a, 1);
  scheduler.truncate(a, 10);
  Batch batch = scheduler.plan();
  EXPECT_EQ(batch.chunks[0].begin, 9) << "the last token is computed again, for its logits";
  scheduler.commit();
  scheduler.append(a, 2);
  scheduler.truncate(a, 7);
  batch = scheduler.plan();
  EXPECT_EQ(batch.chunks[0].begin, 4) << "others may read the second block: it is left to them";
  EXPECT_EQ(batch.tokens, (std::vector{4, 5, 6}));
  scheduler.commit();
  scheduler.finish(a);
  EXPECT_EQ(scheduler.check_integrity(), "");
}

TEST(SchedulerDeathTest, MisuseIsCaught) {
  Scheduler scheduler({.batch_tokens = 64, .batch_sequences = 4, .context = 12}, 4, 4);
  EXPECT_DEATH(scheduler.add(prompt(13), {}), "13 tokens");
  EXPECT_DEATH(scheduler.add({}, {}), "0 tokens");
  EXPECT_DEATH(scheduler.finish(1), "not here");
  EXPECT_DEATH(scheduler.commit(), "without a step");
}

}  // namespace
}  // namespace llamita::sched
