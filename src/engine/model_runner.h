// ModelRunner: runs the scheduler's batches. Owns the cache's tensors and the arena; turns a Batch (ids) into
// a ForwardBatch (tensors) and an AttentionPlan, calls the model and samples. The arena is made once, for the
// largest step there can be: a step allocates nothing that grows with the model.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "analysis/memory_plan.h"
#include "ops/sampling/sampling.h"
#include "sched/batch.h"

namespace llamita {

class ModelRunner {
 public:
  // Borrows model and pool; `plan` has its arena measured. `vocab_limit`: token ids that may be chosen are
  // below it. The cache takes plan.kv_bytes of memory as its pages are first written.
  ModelRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool);

  // Runs one step. `rows`: one for each chunk that samples, in order; so are the results, which live until
  // the next step. `keep_hidden`: hidden() can be asked for until then.
  std::span<const SampledToken> step(const sched::Batch& batch, std::span<const SamplingRow> rows,
                                     bool keep_hidden = false);
  // (C): the final-norm state of token `token` of the step's tokens.
  std::span<const float> hidden(int token) const;
  // Runs one step and appends the logits (V each) of every token to `out`. At most batch_sequences tokens.
  void step_logits(const sched::Batch& batch, std::vector<float>& out);

  // Every op that runs appends a record (nullptr: off).
  void record_to(std::vector<OpRecord>* records) { records_ = records; }
  int64_t arena_bytes() const { return static_cast<int64_t>(arena_->capacity()); }

 private:
  enum class LogitsOf { sampled_chunks, all_tokens };

  void prepare(const sched::Batch& batch, LogitsOf logits_of);
  ForwardBatch forward_batch();
  void provide_arena(size_t bytes);
  Tensor forward();

  const Model& model_;
  int32_t vocab_limit_;
  ThreadPool& pool_;
  Caps caps_;
  KvCache cache_;
  std::vector<Storage> cache_memory_;
  std::unique_ptr<Arena> arena_;
  std::optional<Context> context_;
  std::vector<OpRecord>* records_ = nullptr;

  // The step's inputs; see ForwardBatch.
  std::vector<int32_t> token_ids_, positions_, q_start_, kv_len_, block_table_, logit_rows_;
  std::vector<int64_t> kv_slot_;
  AttentionPlan attention_;
  std::vector<SampledToken> sampled_;
  std::vector<float> hidden_;       // (T, C) or empty
  std::vector<Tensor> hidden_out_;  // see ForwardBatch; only the last one has memory
};

// What kernels may rely on here: this machine's instruction set and the pool's threads.
Caps cpu_caps(const ThreadPool& pool);

}  // namespace llamita
