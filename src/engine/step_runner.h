// StepRunner: what ModelRunner asks of a device.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "analysis/memory_plan.h"
#include "engine/step_inputs.h"
#include "ops/sampling/sampling.h"

namespace llamita {

class StepRunner {
 public:
  // Steps that may be submitted and not yet collected.
  static constexpr int kSlots = 2;

  virtual ~StepRunner() = default;

  // One step, and a token for each of `rows`, which are none or as many as the step's rows of logits. Tokens
  // with a source (StepInputs::token_source) are those of the step submitted before. Returns as soon as the
  // device has its work; nothing of the arguments is read later. `inputs` may be changed. `slot`: below
  // kSlots, in turn. `keep_hidden`: hidden() holds the step's states once it is collected.
  virtual void submit(StepInputs& inputs, std::span<const SamplingRow> rows, bool keep_hidden, int slot) = 0;
  // Waits for the step last submitted to this slot. The tokens live until the slot's next submit().
  virtual std::span<const SampledToken> collect(int slot) = 0;
  // One step; appends its rows of logits.
  virtual void step_logits(StepInputs& inputs, std::vector<float>& out) = 0;
  // Waits for all steps submitted.
  virtual void synchronize() = 0;

  // (T, C): the final-norm states of the last step that kept them.
  virtual std::span<const float> hidden() const = 0;

  virtual void record_to(std::vector<OpRecord>* records) = 0;
  virtual int64_t arena_bytes() const = 0;
};

// For plans of the CPU and of a GPU. Borrow model and pool.
std::unique_ptr<StepRunner> make_cpu_runner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit,
                                            ThreadPool& pool);
std::unique_ptr<StepRunner> make_gpu_runner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit,
                                            ThreadPool& pool);

}  // namespace llamita
