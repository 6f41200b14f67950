// The real scheduler and key/value books under random load, against a fake cache (fake_cache.h), with every
// decision drawn from one seed: arrivals, lengths, priorities, salts, prompts that begin alike, sequences
// that push all others out, cancels and deadlines in every phase, failing steps, replies that are rolled
// back, tiny pools, and results that come one step late. After every step the books must be right; every
// reply must be the one of a sequence alone.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sched/scheduler.h"
#include "sim/event_hash.h"
#include "sim/fake_cache.h"

namespace llamita::sim {

// What happened, to see that the load had in it what it is there to test.
struct Tally {
  int64_t steps = 0, submitted = 0, finished = 0, cancelled = 0, overdue = 0, failed_steps = 0, rollbacks = 0;
  int64_t preemptions = 0, prefix_hits = 0, late_tokens = 0, waited_to_share = 0, cut_in_step = 0;
  int64_t forced = 0, forced_out = 0;
  EventHash events;  // what happened, in its order, and when
  Tally& operator+=(const Tally& other);
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed);

  // One of the seeds that run for about 2,000 steps.
  bool runs_long() const { return runs_long_; }

  // Throws Violation.
  Tally run();

 private:
  struct Live {
    std::vector<int32_t> prompt, reply;
    size_t wanted = 0;
    int64_t deadline = 0;  // in steps; 0: none
    sched::SequenceOptions options;
    bool started = false;
    int rollbacks = 0;
    bool forcing = false;  // it ranks before all others and needs what they have
  };
  // A step under way: what it computed is known to the cache and not yet to the scheduler.
  struct Flight {
    std::vector<std::pair<sched::SequenceId, int32_t>> chosen;
    std::map<sched::SequenceId, int32_t> token;                // the same, to be looked up
    std::set<std::pair<kv::BlockId, sched::SequenceId>> uses;  // what it reads or writes
    std::vector<uint64_t*> written;
  };

  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  sched::Limits random_limits();
  void submit_some();
  std::vector<int32_t> random_prompt(int room);
  void step();
  bool plan_and_run();
  void collect();
  void take(sched::SequenceId id, int32_t token);
  void end(sched::SequenceId id);
  void cancel_one();
  void end_overdue();
  void roll_back_one();
  void lose_steps();
  void submit_forcing();
  void check_forced(const sched::Batch& batch);
  void check_batch(const sched::Batch& batch);
  void check_rank(const sched::Batch& batch);
  void check_fence(const sched::Batch::Chunk& chunk);
  void check_intact(const sched::Batch::Chunk& chunk);
  void check_reply(const Live& live) const;
  void check_books() const;
  void check_end();

  std::mt19937_64 random_;
  int block_tokens_, blocks_;
  sched::Limits limits_;
  int fault_rate_;  // one in so many
  sched::Scheduler scheduler_;
  FakeCache cache_;
  std::map<sched::SequenceId, Live> live_;
  std::deque<Flight> flights_;
  std::vector<std::vector<int32_t>> history_;      // of prompts and their replies
  std::map<kv::BlockId, std::string> written_by_;  // the salt whose tokens a block held last
  bool runs_long_;
  int to_submit_;
  sched::SequenceId first_ = 0;  // the highest rank, and for how many steps it has not moved
  int quiet_steps_ = 0;
  sched::SequenceId forcing_ = 0;  // the one that pushes the others out; one at a time
  Tally tally_;
};

}  // namespace llamita::sim
