// Engine: the step loop. Token prompts in, replies out: it gives the scheduler what is asked, runs its
// batches and hands each reply its tokens. What a request's text means as tokens is the caller's (LLM's)
// business.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "analysis/memory_plan.h"
#include "engine/model_runner.h"
#include "llamita/llm.h"
#include "sched/scheduler.h"
#include "text/tokenizer.h"

namespace llamita {

// A request whose prompt is tokens already.
struct TokenRequest {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  std::string error;  // not empty: the request failed before it came here, for this reason
};

class Engine {
 public:
  using Stream = LLM::Stream;

  // Borrows model and tokenizer. Throws Error for options that make no sense and when the cache does not fit
  // into memory.
  Engine(const Model& model, const Tokenizer& tokenizer, const EngineConfig& config);

  // See LLM::generate.
  std::vector<Completion> generate(const std::vector<TokenRequest>& requests, const Stream& stream = {},
                                   const CancelToken* cancel = nullptr);

  const MemoryPlan& memory_plan() const { return plan_; }
  // Longest prompt and reply together, tokens.
  int context() const { return plan_.shape.context; }
  // The scheduler's books between calls: idle, with nothing lost.
  const sched::Scheduler& scheduler() const { return scheduler_; }

 private:
  class Call;

  const Model& model_;
  const Tokenizer& tokenizer_;
  ThreadPool pool_;
  MemoryPlan plan_;
  ModelRunner runner_;
  sched::Scheduler scheduler_;
  std::vector<int32_t> model_stop_tokens_;  // sorted
  uint64_t next_group_ = 1;
};

}  // namespace llamita
