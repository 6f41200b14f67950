// DirectRunner: steps on given tokens without scheduler or text, for measuring: the speed of prefill and of
// decode, with or without sampling, and the logits a model gives a fixed text (perplexity, comparisons with
// other engines).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/model_runner.h"
#include "kv/block_table.h"
#include "llamita/engine_config.h"

namespace llamita {

class DirectRunner {
 public:
  // Borrows the model. Throws Error as Engine's constructor does.
  DirectRunner(const Model& model, const EngineConfig& config);

  // `sequences` fresh sequences of `tokens` made-up tokens each, in steps of batch_tokens. Returns seconds.
  // Throws Error when they do not fit into the cache with room for `more` tokens each.
  double prefill(int tokens, int sequences = 1, int more = 0);
  // Of a model that takes images: `sequences` fresh sequences of a made-up image, never seen before, and
  // `tokens` tokens behind it, up to the choice of each one's next token. Returns seconds.
  double see(int tokens, int sequences = 1, int more = 0);
  // `tokens` more of each sequence in steps of batch_tokens, after prefill(): a prompt that goes on. Returns
  // seconds.
  double extend(int tokens);
  // Forgets the tokens of each sequence from `length` on, for another extend() or decode() at the same depth.
  void rewind(int length);
  // `steps` steps of one token a sequence, after prefill(). Returns seconds.
  double decode(int steps);
  // The same with each sequence's tokens chosen as `row` says (a sequence's number is its choice) and given
  // back to the model, with at most `steps_under_way` steps (1 or 2) sent and not collected.
  double decode_sampled(int steps, const SamplingRow& row, int steps_under_way);

  // Logits (T, V), row t those after tokens[0 .. t]: teacher forcing. Tokens inside `images` are the images'.
  // Throws Error for ids outside the vocabulary and for more tokens than the context.
  std::vector<float> logits_of(std::span<const int32_t> tokens, std::span<const ImageSpan> images = {});

  const MemoryPlan& memory_plan() const { return plan_; }
  int threads() const { return pool_.threads(); }
  // Parallel regions so far, modulo 2^32 (thread_pool.h).
  uint32_t regions() const { return pool_.regions(); }
  std::string device_name() const;  // "cuda:0", "2 threads"
  // Every op that runs appends a record (nullptr: off).
  void record_to(std::vector<OpRecord>* records) { runner_.record_to(records); }

 private:
  void open(int sequences, int tokens);
  void require_room(int more) const;
  sched::Batch decode_batch() const;
  sched::Batch::Chunk chunk(size_t sequence, int begin, int end) const;
  double fill(int tokens, std::span<const ImageSpan> images);
  int32_t made_up_token(size_t sequence, int position) const;

  const Model& model_;
  ThreadPool pool_;
  MemoryPlan plan_;
  ModelRunner runner_;
  kv::BlockPool blocks_;
  std::vector<kv::BlockTable> tables_;  // by sequence
  int length_ = 0;                      // tokens of each sequence
  int32_t next_image_ = sched::kFirstImageToken;
};

}  // namespace llamita
