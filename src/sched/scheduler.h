// Scheduler: which tokens of which sequences the next step computes. Continuous batching (Yu et al. 2022,
// Orca) with chunked prefill (Agrawal et al. 2023, Sarathi): every running reply gets its token each step and
// what is left of the step's token budget goes to prompts. Sequences have a rank: lower priority numbers
// first, among equals in order of arrival. What ranks higher is planned and admitted first, and nothing is
// admitted past a sequence that waits for room, so the highest always moves and equals cannot starve each
// other. When blocks run out, idle prefixes go first, then the running sequence of the lowest rank returns to
// the waiting ones and is recomputed later; a waiting sequence of a better priority may send back running
// ones of a worse one. Pure: no tensors, no clock, no threads; the same calls give the same batches.
//
//   id = add(…)  ->  batch = plan()  ->  (run it)  ->  commit()  ->  append(id, token) or finish(id)
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/prefix_cache.h"
#include "sched/batch.h"

namespace llamita::sched {

struct Limits {
  int batch_tokens = 512;    // most tokens of a step, at least batch_sequences
  int batch_sequences = 64;  // most sequences of a step
  int context = 0;           // longest sequence
  // 2: plan() may be called while the step before is under way. Tokens that it will choose are
  // kTokenOfStepBefore in the batch, and a sequence that ends with it was planned once too often.
  int steps_under_way = 1;
  bool keep_prefixes = true;
  kv::PrefixCache::Options prefixes = {};
};

struct SequenceOptions {
  int priority = 0;
  std::string salt;     // prefixes are shared with sequences of the same salt only
  bool overlap = true;  // false: it is not planned before the token of the step before is known
  int longest = 0;  // its caller ends it when it has so many tokens: no step is planned past them; 0: unknown
};

class Scheduler {
 public:
  Scheduler(const Limits& limits, int blocks, int block_tokens);

  Scheduler(const Scheduler&) = delete;  // sequences point to its pool
  Scheduler& operator=(const Scheduler&) = delete;

  // Longest sequence that can ever be computed: the context, or all blocks when they hold less.
  int longest_sequence() const;

  // A new waiting sequence. It needs 1 <= prompt.size() <= longest_sequence() (checked: the caller refuses
  // what can never fit). One that begins like a prompt that is being computed waits to share its blocks.
  SequenceId add(std::vector<int32_t> prompt, const SequenceOptions& options);

  // The next step's work; empty only when nothing is waiting or running, or when all of it waits for steps
  // under way.
  Batch plan();
  // The oldest step that plan() described and that is under way has run: its keys and values are in the
  // cache. Each of its sequences that sampled is to be appended to or finished before the next plan().
  void commit();
  // It failed: nothing counts that it or a step after it wrote.
  void abandon();

  // Adds the token that the last committed step chose. The sequence must be shorter than longest_sequence()
  // (checked).
  void append(SequenceId id, int32_t token);
  // Forgets a sequence's tokens beyond `length`, at least 1, and what was computed of them. No step with a
  // part of it may be under way (checked).
  void truncate(SequenceId id, int length);
  // Ends a sequence in any phase (done or cancelled). Its blocks outlive the steps that still read them.
  void finish(SequenceId id);

  bool idle() const { return sequences_.empty(); }
  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const { return static_cast<int>(waiting_.size()); }
  int64_t preemptions() const { return preemptions_; }
  const kv::BlockPool& pool() const { return pool_; }
  // What is wrong with the books, "" when nothing is. For tests and debugging.
  std::string check_integrity() const;

 private:
  struct Sequence {
    Sequence(SequenceId id_in, std::vector<int32_t> tokens_in, const SequenceOptions& options_in,
             kv::BlockPool& pool)
        : id(id_in), options(options_in), tokens(std::move(tokens_in)), blocks(pool) {}

    SequenceId id;
    SequenceOptions options;
    std::vector<int32_t> tokens;
    int expected = 0;    // tokens that steps under way choose
    int planned = 0;     // tokens whose keys and values are in the cache or computed by steps under way
    int computed = 0;    // by steps that have run
    int generation = 0;  // a step's results count when this is what it was when the step was planned
    kv::BlockTable blocks;
    int kept = 0;                        // full blocks that are in the prefix cache
    kv::PrefixCache::Place kept_to = 0;  // where the last of them stands
    bool keeps = true;                   // false: another sequence's blocks stand where its next one would
    SequenceId waits_for = 0;            // until that one has computed `waits_until` tokens
    int waits_until = 0;

    int length() const { return static_cast<int>(tokens.size()); }
    int remaining() const { return length() + expected - planned; }
  };
  struct ByRank {
    bool operator()(const Sequence* a, const Sequence* b) const {
      if (a->options.priority != b->options.priority) return a->options.priority < b->options.priority;
      return a->id < b->id;
    }
  };
  struct Step {
    struct Part {
      SequenceId sequence;
      int generation;
      int end;
    };
    std::vector<Part> parts;
    std::vector<kv::BlockTable> read;  // of sequences that left while the step was under way
  };

  Sequence& find(SequenceId id);
  bool may_plan(const Sequence& sequence) const;
  void schedule(Sequence& sequence, int tokens, Batch& batch);
  bool reserve(Sequence& sequence, int tokens);
  bool blocks_come() const;
  void preempt(Sequence& victim);
  void leave(Sequence& sequence);
  void make_way();
  void admit(int budget, Batch& batch);
  bool waits_for_other(Sequence& sequence);
  std::optional<kv::PrefixCache::Match> room_for(const Sequence& sequence) const;
  kv::PrefixCache::Match kept_prefix(const Sequence& sequence) const;
  void join(Sequence& sequence, const kv::PrefixCache::Match& match);
  void keep_blocks(Sequence& sequence);
  void keep_tail(const Sequence& sequence);

  Limits limits_;
  kv::BlockPool pool_;
  kv::PrefixCache cache_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> running_;  // by rank
  std::set<Sequence*, ByRank> waiting_;
  std::deque<Step> under_way_;
  SequenceId next_id_ = 1;
  int64_t preemptions_ = 0;
};

}  // namespace llamita::sched
