// ModelRunner: runs the scheduler's batches on the device that the plan is for: turns a Batch (ids) into a
// ForwardBatch (tensors) and an AttentionPlan, calls the model and samples. Cache and arena are made once,
// for the largest step there can be: a step allocates nothing that grows with the model.
//
//   ticket = submit(batch, rows)  ->  (plan and submit the next step)  ->  tokens = collect(ticket)
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/compute_device.h"
#include "engine/step_runner.h"
#include "sched/batch.h"

namespace llamita {

class ModelRunner {
 public:
  // Borrows model and pool; `plan` comes from plan_steps(). `vocab_limit`: token ids that may be chosen are
  // below it. On the CPU the cache takes plan.kv_bytes of memory as its pages are first written, on a GPU at
  // once. `fault`: EngineConfig's. Throws Error when a GPU has no room.
  ModelRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool,
              const std::string& fault);

  using Ticket = uint64_t;                                   // of a step; the next one's is one more
  static constexpr int kStepsUnderWay = StepRunner::kSlots;  // at most, submitted and not collected

  // Starts one step; on a GPU it runs while the host goes on. `rows`: none, or one for each chunk that
  // samples, in order; nothing of them is read later. Tokens that are kTokenOfStepBefore are what the step
  // submitted before chooses, whether that is known yet or not. `keep_hidden`: hidden() can be asked for
  // after collect() until the next submit(). `images`: of the batch's image tokens.
  Ticket submit(const sched::Batch& batch, std::span<const SamplingRow> rows, bool keep_hidden = false,
                StepImages images = {});
  // Waits for a step and gives its tokens, one a row. They live until the step after next is submitted. A
  // step whose tokens nobody wants need not be collected.
  std::span<const SampledToken> collect(Ticket ticket);
  // (C): the final-norm state of token `token` of the collected step's tokens.
  std::span<const float> hidden(int token) const;
  // Runs one step and appends the logits (V each) of every token to `out`. At most batch_sequences tokens.
  void step_logits(const sched::Batch& batch, std::vector<float>& out, StepImages images = {});
  // Waits for all steps.
  void synchronize() { runner_->synchronize(); }

  // Every op that runs appends a record (nullptr: off). On a GPU this turns graphs off meanwhile.
  void record_to(std::vector<OpRecord>* records) { runner_->record_to(records); }
  int64_t arena_bytes() const { return runner_->arena_bytes(); }

 private:
  size_t width_;  // C
  std::unique_ptr<StepRunner> runner_;
  StepInputs inputs_;
  std::vector<sched::SequenceId> sampled_;  // by row of the last step submitted
  Ticket next_ticket_ = 0;
};

}  // namespace llamita
