#include "engine/faulty_runner.h"

#include <charconv>
#include <optional>

#include "base/cat.h"
#include "base/log.h"
#include "llamita/error.h"

namespace llamita {

namespace {

struct Fault {
  bool lost = false;  // for good
  int64_t step = 0;   // from 1
};

Fault parse_fault(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  Fault fault{kind == "lost", 0};
  const std::string_view digits =
      colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, fault.step);
  const bool number = parsed.ec == std::errc() && parsed.ptr == end && fault.step > 0;
  if ((kind == "lost" || kind == "fail") && number) return fault;
  throw Error(cat("LLAMITA_FAULT: expected fail:N or lost:N with the number of a step, got \"", text, "\""));
}

class FaultyRunner : public StepRunner {
 public:
  FaultyRunner(std::unique_ptr<StepRunner> runner, const Fault& fault)
      : runner_(std::move(runner)), fault_(fault) {}

  void submit(StepInputs& inputs, std::span<const SamplingRow> rows, bool keep_hidden, int slot) override {
    number_[slot] = ++steps_;
    runner_->submit(inputs, rows, keep_hidden, slot);
  }
  std::span<const SampledToken> collect(int slot) override {
    const int64_t step = number_[slot];
    if (fault_.lost && step >= fault_.step) {
      throw DeviceLostError(cat("LLAMITA_FAULT: the device is lost at step ", fault_.step));
    }
    if (!fault_.lost && step == fault_.step) throw Error(cat("LLAMITA_FAULT: step ", step, " fails"));
    return runner_->collect(slot);
  }
  void step_logits(StepInputs& inputs, std::vector<float>& out) override {
    runner_->step_logits(inputs, out);
  }
  void synchronize() override { runner_->synchronize(); }
  std::span<const float> hidden() const override { return runner_->hidden(); }
  void record_to(std::vector<OpRecord>* records) override { runner_->record_to(records); }
  int64_t arena_bytes() const override { return runner_->arena_bytes(); }

 private:
  std::unique_ptr<StepRunner> runner_;
  Fault fault_;
  int64_t steps_ = 0;
  int64_t number_[kSlots] = {};  // of the step in each slot
};

}  // namespace

std::unique_ptr<StepRunner> with_fault(std::unique_ptr<StepRunner> runner, std::string_view fault) {
  const Fault parsed = parse_fault(fault);
  log_warning("LLAMITA_FAULT: step ", parsed.step, parsed.lost ? " will lose the device" : " will fail");
  return std::make_unique<FaultyRunner>(std::move(runner), parsed);
}

}  // namespace llamita
