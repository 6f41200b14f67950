// The scheduler under random load with a fake cache. Each slot stores a hash of its token, its position and
// the hash of the slot before it, read through the block table; the next token is the hash of the last slot.
// A stale block, a wrong prefix, a lost or doubled token or a bad resume changes a reply, and every reply
// must equal the one computed alone.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "sched/scheduler.h"

namespace llamita::sched {
namespace {

uint64_t hash_of(int32_t token, int position, uint64_t before) {
  uint64_t x =
      (before ^ static_cast<uint64_t>(token) * 0x9E3779B97F4A7C15u) + static_cast<uint64_t>(position);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

int32_t next_token(uint64_t hash) { return static_cast<int32_t>(hash % 50); }

std::vector<int32_t> solo_reply(const std::vector<int32_t>& prompt, size_t length) {
  std::vector<int32_t> tokens = prompt;
  uint64_t hash = 0;
  for (size_t i = 0; tokens.size() < prompt.size() + length; ++i) {
    hash = hash_of(tokens[i], static_cast<int>(i), hash);
    if (i + 1 == tokens.size()) tokens.push_back(next_token(hash));
  }
  return {tokens.begin() + static_cast<ptrdiff_t>(prompt.size()), tokens.end()};
}

class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : random_(seed),
        block_tokens_(1 << below(4)),
        blocks_(3 + below(30)),
        limits_(random_limits()),
        scheduler_(limits_, blocks_, block_tokens_),
        cells_(static_cast<size_t>(blocks_ * block_tokens_), 0) {}

  void run() {
    int to_submit = 5 + below(25);
    for (int step = 0; to_submit > 0 || !scheduler_.idle(); ++step) {
      ASSERT_LT(step, 20000) << "no end in sight";
      while (to_submit > 0 && below(3) == 0) {
        submit(std::min(to_submit, below(4) == 0 ? 1 + below(4) : 1));
        to_submit -= 1;
      }
      if (below(12) == 0) cancel_one();
      const int before = computed_;
      one_step();
      if (testing::Test::HasFatalFailure()) return;
      ASSERT_TRUE(scheduler_.idle() || computed_ > before) << "work waits and nothing runs";
      ASSERT_EQ(scheduler_.check_integrity(), "");
    }
    ASSERT_TRUE(live_.empty());
    ASSERT_EQ(ended_, submitted_) << "every sequence ends exactly once";
    ASSERT_EQ(scheduler_.running() + scheduler_.waiting(), 0);
  }
  int preemptions() const { return scheduler_.preemptions(); }
  int reused() const { return reused_; }
  int cancelled() const { return cancelled_; }

 private:
  struct Live {
    std::vector<int32_t> prompt, reply;
    size_t wanted = 0;
  };

  int below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  Limits random_limits() {
    Limits limits;
    limits.batch_sequences = 1 + below(6);
    limits.batch_tokens = limits.batch_sequences + below(40);
    limits.context = 2 + below(blocks_ * block_tokens_ + 20);
    limits.kept_prefixes = below(5);
    return limits;
  }

  // A prompt that often continues an earlier one, and `choices` sequences of it.
  void submit(int choices) {
    const int room = scheduler_.longest_sequence();
    std::vector<int32_t> prompt;
    if (!history_.empty() && below(2) == 0)
      prompt = history_[static_cast<size_t>(below(int(history_.size())))];
    if (!prompt.empty() && below(3) == 0) prompt.resize(static_cast<size_t>(1 + below(int(prompt.size()))));
    for (int extra = below(1 + room); extra > 0 || prompt.empty(); --extra) prompt.push_back(below(3));
    prompt.resize(static_cast<size_t>(std::min<int>(int(prompt.size()), std::max(1, room - 1 - below(5)))));
    const auto most = static_cast<int>(static_cast<size_t>(room) + 1 - prompt.size());
    for (int i = 0; i < choices; ++i) {
      const SequenceId id = scheduler_.add(prompt, next_group_);
      live_[id] = {prompt, {}, static_cast<size_t>(1 + below(most))};
      ++submitted_;
    }
    ++next_group_;
  }

  void cancel_one() {
    if (live_.empty()) return;
    auto victim = live_.begin();
    std::advance(victim, below(static_cast<int>(live_.size())));
    check_reply(victim->second);
    scheduler_.finish(victim->first);
    live_.erase(victim);
    ++ended_;
    ++cancelled_;
  }

  void check_reply(const Live& live) { ASSERT_EQ(live.reply, solo_reply(live.prompt, live.reply.size())); }

  void one_step() {
    const Batch batch = scheduler_.plan();
    if (batch.empty()) return;
    ASSERT_LE(static_cast<int>(batch.tokens.size()), limits_.batch_tokens);
    ASSERT_LE(static_cast<int>(batch.chunks.size()), limits_.batch_sequences);
    std::map<SequenceId, int32_t> chosen;
    size_t at = 0;
    for (const Batch::Chunk& chunk : batch.chunks) {
      expect_intact(chunk);
      uint64_t hash = 0;
      for (int position = chunk.begin; position < chunk.end; ++position, ++at) {
        const uint64_t before = position == 0 ? 0 : cell(chunk, position - 1);
        hash = cell(chunk, position) = hash_of(batch.tokens.at(at), position, before);
      }
      if (chunk.sample) chosen[chunk.sequence] = next_token(hash);
      computed_ += chunk.end - chunk.begin;
      if (chunk.begin > 0 && !started_[chunk.sequence]) ++reused_;
      started_[chunk.sequence] = true;
    }
    if (below(15) == 0) cancel_one();  // while the step is under way
    if (below(25) == 0) return scheduler_.abandon();
    scheduler_.commit();
    for (const auto& [id, token] : chosen) {
      if (live_.count(id) != 0) take(id, token);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  // All that the chunk's tokens would attend to is what this sequence's own tokens make it.
  void expect_intact(const Batch::Chunk& chunk) {
    const Live& live = live_.at(chunk.sequence);
    uint64_t hash = 0;
    for (int position = 0; position < chunk.begin; ++position) {
      const auto at = static_cast<size_t>(position);
      const int32_t token =
          at < live.prompt.size() ? live.prompt[at] : live.reply.at(at - live.prompt.size());
      hash = hash_of(token, position, hash);
      ASSERT_EQ(cell(chunk, position), hash) << "position " << position;
    }
  }

  void take(SequenceId id, int32_t token) {
    Live& live = live_[id];
    live.reply.push_back(token);
    if (live.reply.size() < live.wanted) return scheduler_.append(id, token);
    check_reply(live);
    history_.push_back(live.prompt);
    history_.back().insert(history_.back().end(), live.reply.begin(), live.reply.end());
    scheduler_.finish(id);
    live_.erase(id);
    ++ended_;
  }

  uint64_t& cell(const Batch::Chunk& chunk, int position) {
    const kv::BlockId block = chunk.blocks.at(static_cast<size_t>(position / block_tokens_));
    return cells_.at(static_cast<size_t>(block * block_tokens_ + position % block_tokens_));
  }

  std::mt19937 random_;
  int block_tokens_, blocks_;
  Limits limits_;
  Scheduler scheduler_;
  std::vector<uint64_t> cells_;
  std::map<SequenceId, Live> live_;
  std::map<SequenceId, bool> started_;
  std::vector<std::vector<int32_t>> history_;
  uint64_t next_group_ = 1;
  int submitted_ = 0, ended_ = 0, computed_ = 0, reused_ = 0, cancelled_ = 0;
};

TEST(Simulation, RepliesEqualSoloRepliesWhateverHappens) {
  int preemptions = 0, reused = 0, cancelled = 0;
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed);
    simulation.run();
    if (HasFatalFailure()) return;
    preemptions += simulation.preemptions();
    reused += simulation.reused();
    cancelled += simulation.cancelled();
  }
  // The load must really have contained what it is there to test.
  EXPECT_GT(preemptions, 1000);
  EXPECT_GT(reused, 1000);
  EXPECT_GT(cancelled, 1000);
}

}  // namespace
}  // namespace llamita::sched
