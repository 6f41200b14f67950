#include "engine/model_runner.h"

namespace llamita {

ModelRunner::ModelRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool)
    : width_(static_cast<size_t>(model.config().hidden)),
      runner_(plan.caps.device == DeviceKind::cpu ? make_cpu_runner(model, plan, vocab_limit, pool)
                                                  : make_gpu_runner(model, plan, vocab_limit, pool)) {}

std::span<const SampledToken> ModelRunner::step(const sched::Batch& batch, std::span<const SamplingRow> rows,
                                                bool keep_hidden, StepImages images) {
  inputs_.read(batch, StepInputs::LogitsOf::sampled_chunks);
  inputs_.images = std::move(images);
  LLAMITA_CHECK(rows.empty() || static_cast<int>(rows.size()) == inputs_.rows(), rows.size(),
                " samplings of ", inputs_.rows(), " rows");
  return runner_->step(inputs_, rows, keep_hidden);
}

std::span<const float> ModelRunner::hidden(int token) const {
  const size_t begin = static_cast<size_t>(token) * width_;
  LLAMITA_CHECK(begin + width_ <= runner_->hidden().size(), "the state of token ", token, " was not kept");
  return runner_->hidden().subspan(begin, width_);
}

void ModelRunner::step_logits(const sched::Batch& batch, std::vector<float>& out, StepImages images) {
  inputs_.read(batch, StepInputs::LogitsOf::all_tokens);
  inputs_.images = std::move(images);
  runner_->step_logits(inputs_, out);
}

}  // namespace llamita
