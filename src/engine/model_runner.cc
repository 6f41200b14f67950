#include "engine/model_runner.h"

#include "engine/faulty_runner.h"

namespace llamita {

namespace {

std::unique_ptr<StepRunner> make_runner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit,
                                        ThreadPool& pool, const std::string& fault) {
  auto runner = plan.caps.device == DeviceKind::cpu ? make_cpu_runner(model, plan, vocab_limit, pool)
                                                    : make_gpu_runner(model, plan, vocab_limit, pool);
  return fault.empty() ? std::move(runner) : with_fault(std::move(runner), fault);
}

int slot_of(ModelRunner::Ticket ticket) { return static_cast<int>(ticket % StepRunner::kSlots); }

}  // namespace

ModelRunner::ModelRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool,
                         const std::string& fault)
    : width_(static_cast<size_t>(model.config().hidden)),
      runner_(make_runner(model, plan, vocab_limit, pool, fault)) {}

ModelRunner::Ticket ModelRunner::submit(const sched::Batch& batch, std::span<const SamplingRow> rows,
                                        bool keep_hidden, StepImages images) {
  inputs_.read(batch, StepInputs::LogitsOf::sampled_chunks, sampled_);
  inputs_.images = std::move(images);
  LLAMITA_CHECK(rows.empty() || static_cast<int>(rows.size()) == inputs_.rows(), rows.size(),
                " samplings of ", inputs_.rows(), " rows");
  sampled_.clear();
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    if (chunk.sample && !rows.empty()) sampled_.push_back(chunk.sequence);
  }
  const Ticket ticket = next_ticket_++;
  runner_->submit(inputs_, rows, keep_hidden, slot_of(ticket));
  return ticket;
}

std::span<const SampledToken> ModelRunner::collect(Ticket ticket) {
  LLAMITA_CHECK(ticket < next_ticket_ && next_ticket_ - ticket <= kStepsUnderWay, "step ", ticket, " of ",
                next_ticket_, " is collected");
  return runner_->collect(slot_of(ticket));
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
