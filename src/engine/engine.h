// Engine: the step loop. Token prompts in, replies out: it gives the scheduler what is asked, runs its
// batches and hands each reply its tokens. Requests may start and end between any two steps. What a request's
// text means as tokens is the caller's (RequestPreparer's) business; so is the thread: one at a time.
//
// On a GPU two steps are under way (EngineConfig::steps_under_way): step N+1 is planned and sent while step N
// runs, its input tokens never leave the card, and only then are N's tokens waited for and given out. So a
// reply that ends with N for a reason that only its text shows (a stop token or string, a cancellation) takes
// part in N+1 for nothing, and what N+1 chose for it is dropped. Steps with a part that needs the host
// between two tokens (a reply held to a form, an embedding) are waited for before the next is planned.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "analysis/memory_plan.h"
#include "engine/model_runner.h"
#include "engine/reply.h"
#include "llamita/async_engine.h"
#include "llamita/llm.h"
#include "sched/scheduler.h"
#include "text/tokenizer.h"

namespace llamita {

// A request whose prompt is tokens already.
struct TokenRequest {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  std::string error;  // not empty: the request failed before it came here, for this reason
  bool embedding = false;
  std::shared_ptr<grammar::MaskCache> form = nullptr;  // sampling.constraint, compiled
  std::vector<ImageSpan> images = {};                  // in the prompt, whose tokens there are the images'
  std::string error_code = {};                         // beside `error`: Choice::error_code
};

class Engine {
 public:
  using Stream = LLM::Stream;
  using Clock = std::chrono::steady_clock;
  using OnUpdate = std::function<void(const Update&)>;

  struct StartOptions {
    int priority = 0;
    std::string cache_salt;
    Clock::time_point submitted = Clock::now();
    std::optional<Clock::time_point> deadline;
    std::optional<Clock::time_point> begin_by;       // overdue when no step had part of it, …
    std::shared_ptr<std::atomic<bool>> group_begun;  // … nor of another that it came with
  };

  // Borrows model and tokenizer. Throws Error for options that make no sense and when the cache does not fit
  // into memory.
  Engine(const Model& model, const Tokenizer& tokenizer, const EngineConfig& config);
  ~Engine();

  // Throws Error when the request cannot be served. May be called while another thread steps.
  void check(const TokenRequest& request) const;

  // See LLM::generate: starts all requests and steps until they have ended.
  std::vector<Completion> generate(const std::vector<TokenRequest>& requests, const Stream& stream = {},
                                   const CancelToken* cancel = nullptr);

  // The request takes part in the next steps; `on_update` hears of it as AsyncEngine has it. A request that
  // cannot be served, or asks for nothing, ends here.
  void start(RequestId id, std::shared_ptr<const TokenRequest> request, const StartOptions& options,
             OnUpdate on_update);
  // Ends a request in any phase; ids that are not running are ignored.
  void end(RequestId id, FinishReason reason, const std::string& why = "", const std::string& code = "");
  void end_all(FinishReason reason);
  bool idle() const { return requests_.empty() && flights_.empty(); }

  // Ends what is past its deadline, sends the next step, and gives out the tokens of the oldest one under way
  // once it is waited for. Exceptions, from the model or from on_update, leave the steps half done:
  // fail_step() or abandon() must follow.
  void step();
  // The steps under way count for nothing: what they had part of ends with FinishReason::error, all else goes
  // on.
  void fail_step(const std::string& why);
  // All requests end so, whether a step had part of them or not.
  void fail_all(const std::string& why);
  // Everything that runs is forgotten without a word.
  void abandon();

  // running to blocks_kept and the counters; the rest is AsyncEngine's to know.
  EngineStats stats() const;
  int unstarted() const { return unstarted_; }  // requests that no step had part of yet; from any thread
  int64_t unstarted_tokens() const { return unstarted_tokens_; }  // of their prompts

  const MemoryPlan& memory_plan() const { return plan_; }
  // Longest prompt and reply together, tokens.
  int context() const { return plan_.shape.context; }
  // Ids that may be chosen are below.
  int32_t choosable_tokens() const;
  // The model's own, sorted: they end replies.
  const std::vector<int32_t>& stop_tokens() const { return model_stop_tokens_; }
  // The scheduler's books between steps.
  const sched::Scheduler& scheduler() const { return scheduler_; }

 private:
  // A request that has not ended.
  struct Running;
  // One of its choices.
  struct Choosing {
    Running* request;
    int choice;
    std::unique_ptr<Reply> reply;
    bool begun = false;  // a step had part of it
  };
  // A step that was planned and whose tokens have not been given out.
  struct Flight {
    sched::Batch batch;
    ModelRunner::Ticket ticket = 0;
    bool waits = false;   // nothing is planned before its tokens are known
    bool embeds = false;  // states of its tokens are wanted
    int prefill_tokens = 0, decode_tokens = 0;
    Clock::time_point sent;
  };

  void end_unstarted(Running& request, FinishReason reason, const std::string& why = "",
                     const std::string& code = "");
  void end_overdue();
  bool send_step();
  void give_out_oldest();
  Flight describe(sched::Batch batch) const;
  void note_begun(const sched::Batch& batch);
  void count_unstarted(const Running& request, int change);
  void count_cancelled(const Running& request);
  std::vector<SamplingRow> sampling_rows(const sched::Batch& batch) const;
  StepImages images_of(const sched::Batch& batch) const;
  void count(const Flight& flight);
  void advance(sched::SequenceId id, const SampledToken& sampled, int last_token);
  void embed(sched::SequenceId id, int last_token);
  void close(sched::SequenceId id, Update& update);
  void publish(Running& request, Update& update);

  const Model& model_;
  const Tokenizer& tokenizer_;
  ThreadPool pool_;
  MemoryPlan plan_;
  int steps_under_way_;
  ModelRunner runner_;
  sched::Scheduler scheduler_;
  std::vector<int32_t> model_stop_tokens_;
  std::map<RequestId, std::unique_ptr<Running>> requests_;
  std::map<sched::SequenceId, Choosing> choosing_;  // in order, so that a run ends the same way every time
  std::deque<Flight> flights_;                      // the oldest first
  Clock::time_point last_given_out_;
  EngineStats counters_;
  std::atomic<int> unstarted_ = 0;
  std::atomic<int64_t> unstarted_tokens_ = 0;
};

}  // namespace llamita
