// Scheduler: which tokens of which sequences the next step computes. Continuous batching (Yu et al. 2022,
// Orca) with chunked prefill (Agrawal et al. 2023, Sarathi): every running reply gets its token each step and
// what is left of the step's token budget goes to prompts, oldest first. When blocks run out, kept prefixes
// go first, then the sequence admitted last returns to the waiting queue and is recomputed later. Pure: no
// tensors, no clock, no threads; the same calls give the same batches.
//
//   id = add(…)  ->  batch = plan()  ->  (run it)  ->  commit()  ->  append(id, token) or finish(id)
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/prefix_store.h"
#include "sched/batch.h"

namespace llamita::sched {

struct Limits {
  int batch_tokens = 512;    // most tokens of a step, at least batch_sequences
  int batch_sequences = 64;  // most sequences of a step
  int context = 0;           // longest sequence
  int kept_prefixes = 64;    // ended sequences kept for reuse
};

class Scheduler {
 public:
  Scheduler(const Limits& limits, int blocks, int block_tokens);

  Scheduler(const Scheduler&) = delete;  // sequences point to its pool
  Scheduler& operator=(const Scheduler&) = delete;

  // Longest sequence that can ever be computed: the context, or all blocks when they hold less.
  int longest_sequence() const;

  // A new sequence at the end of the waiting queue. It needs 1 <= prompt.size() <= longest_sequence()
  // (checked: the caller refuses what can never fit). Sequences of one `group` have the same prompt; the
  // first one computes it and the others wait to share its full blocks.
  SequenceId add(std::vector<int32_t> prompt, uint64_t group);

  // The next step's work; empty only when nothing is waiting or running.
  Batch plan();
  // The step that plan() described has run: its keys and values are in the cache.
  void commit();
  // The step failed: nothing it wrote counts.
  void abandon();

  // Adds the token that the last step chose. The sequence must be shorter than longest_sequence() (checked).
  void append(SequenceId id, int32_t token);
  // Ends a sequence in any phase (done or cancelled). Its blocks outlive a step that still reads them.
  void finish(SequenceId id);

  bool idle() const { return sequences_.empty(); }
  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const { return static_cast<int>(waiting_.size()); }
  int preemptions() const { return preemptions_; }
  const kv::BlockPool& pool() const { return pool_; }
  // What is wrong with the books, "" when nothing is. For tests and debugging.
  std::string check_integrity() const;

 private:
  struct Sequence {
    SequenceId id;
    uint64_t group;
    int shareable;  // prompt tokens in full blocks that siblings wait for
    std::vector<int32_t> tokens;
    int computed = 0;  // tokens whose keys and values are in the cache
    kv::BlockTable blocks;

    int length() const { return static_cast<int>(tokens.size()); }
    int remaining() const { return length() - computed; }
  };

  Sequence& find(SequenceId id);
  void schedule(Sequence& sequence, int tokens, Batch& batch);
  bool reserve(Sequence& sequence, int tokens);
  void preempt_last();
  void admit(int budget, Batch& batch);
  bool waits_for_sibling(const Sequence& sequence) const;
  void reuse_prefix(Sequence& sequence);
  bool make_room(Sequence& sequence);

  Limits limits_;
  kv::BlockPool pool_;
  kv::PrefixStore kept_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> running_;  // in order of admission
  std::deque<Sequence*> waiting_;
  bool in_flight_ = false;
  Batch in_flight_batch_;                       // chunks of the step under way, without tokens and blocks
  std::vector<kv::BlockTable> read_by_flight_;  // of sequences that ended while their step was under way
  SequenceId next_id_ = 1;
  int preemptions_ = 0;
};

}  // namespace llamita::sched
