#include "engine/engine.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>

#include "base/timer.h"
#include "engine/reply.h"
#include "engine/validate.h"

namespace llamita {

namespace {

int32_t choosable_tokens(const Model& model, const Tokenizer& tokenizer) {
  return std::min(model.config().vocab, tokenizer.vocab_size());
}

sched::Limits limits_of(const EngineShape& shape) {
  return {shape.batch_tokens, shape.batch_sequences, shape.context, shape.batch_sequences};
}

uint64_t system_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace

Engine::Engine(const Model& model, const Tokenizer& tokenizer, const EngineConfig& config)
    : model_(model),
      tokenizer_(tokenizer),
      pool_(config.threads),
      plan_(plan_steps(model, config, choosable_tokens(model, tokenizer), pool_)),
      runner_(model, plan_, choosable_tokens(model, tokenizer), pool_),
      scheduler_(limits_of(plan_.shape), plan_.shape.kv_pages, kPageTokens),
      model_stop_tokens_(tokenizer.stop_tokens()) {
  model_stop_tokens_.insert(model_stop_tokens_.end(), model.config().eos.begin(), model.config().eos.end());
  std::sort(model_stop_tokens_.begin(), model_stop_tokens_.end());
}

// One generate(): its requests, their replies, and where both stand. Whatever ends the call, an exception
// from the stream included, its sequences leave the scheduler with it.
class Engine::Call {
 public:
  Call(Engine& engine, const std::vector<TokenRequest>& requests, const Stream& stream);
  ~Call();

  void run(const CancelToken* cancel);
  std::vector<Completion> take() { return std::move(completions_); }

 private:
  struct Active {
    size_t request;
    int choice;
    std::unique_ptr<Reply> reply;
  };

  std::string why_not(const TokenRequest& request) const;
  void start(size_t request);
  void end_unstarted(size_t request, FinishReason reason, const std::string& why);
  void step();
  void advance(sched::SequenceId id, const SampledToken& sampled);
  void cancel_all();
  void publish(size_t request, int choice, Delta delta) const;

  Engine& engine_;
  const std::vector<TokenRequest>& requests_;
  const Stream& stream_;
  Stopwatch watch_;
  std::vector<Completion> completions_;
  std::vector<std::unique_ptr<ReplyRules>> rules_;  // by request
  std::map<sched::SequenceId, Active> active_;      // in order, so that a call ends the same way every time
};

Engine::Call::Call(Engine& engine, const std::vector<TokenRequest>& requests, const Stream& stream)
    : engine_(engine),
      requests_(requests),
      stream_(stream),
      completions_(requests.size()),
      rules_(requests.size()) {}

Engine::Call::~Call() {
  engine_.scheduler_.abandon();
  for (const auto& [id, active] : active_) engine_.scheduler_.finish(id);
}

void Engine::Call::run(const CancelToken* cancel) {
  for (size_t request = 0; request < requests_.size(); ++request) {
    const std::string why = why_not(requests_[request]);
    if (!why.empty()) {
      end_unstarted(request, FinishReason::error, why);
    } else if (requests_[request].sampling.max_tokens == 0) {
      end_unstarted(request, FinishReason::length, "");
    } else {
      start(request);
    }
  }
  while (!active_.empty()) {
    if (cancel != nullptr && cancel->cancelled()) return cancel_all();
    step();
  }
}

// Why the request cannot be served, "" when it can.
std::string Engine::Call::why_not(const TokenRequest& request) const {
  if (!request.error.empty()) return request.error;
  try {
    validate(request.sampling, choosable_tokens(engine_.model_, engine_.tokenizer_));
    validate_prompt(request.prompt, engine_.model_.config().vocab, engine_.context());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void Engine::Call::start(size_t request) {
  const auto& [prompt, params, error] = requests_[request];
  Completion& completion = completions_[request];
  completion.seed = params.seed ? *params.seed : system_seed();
  completion.prompt_tokens = static_cast<int>(prompt.size());
  completion.choices.resize(static_cast<size_t>(params.n));

  auto rules = std::make_unique<ReplyRules>();
  rules->params = &params;
  rules->seed = completion.seed;
  rules->room = engine_.context() - completion.prompt_tokens;
  if (params.max_tokens >= 0) rules->room = std::min(rules->room, params.max_tokens);
  rules->stop_tokens = params.stop_token_ids;
  if (!params.ignore_eos) {
    const std::vector<int32_t>& own = engine_.model_stop_tokens_;
    rules->stop_tokens.insert(rules->stop_tokens.end(), own.begin(), own.end());
  }
  std::sort(rules->stop_tokens.begin(), rules->stop_tokens.end());
  rules_[request] = std::move(rules);

  const uint64_t group = engine_.next_group_++;
  for (int choice = 0; choice < params.n; ++choice) {
    auto reply = std::make_unique<Reply>(engine_.tokenizer_, *rules_[request], choice, prompt);
    active_.emplace(engine_.scheduler_.add(prompt, group), Active{request, choice, std::move(reply)});
  }
}

void Engine::Call::end_unstarted(size_t request, FinishReason reason, const std::string& why) {
  const auto& [prompt, params, error] = requests_[request];
  Completion& completion = completions_[request];
  completion.prompt_tokens = static_cast<int>(prompt.size());
  completion.seed = params.seed.value_or(0);
  Choice choice;
  choice.finish = reason;
  choice.error = why;
  completion.choices.assign(static_cast<size_t>(std::clamp(params.n, 1, kMaxChoices)), choice);
  for (int index = 0; index < static_cast<int>(completion.choices.size()); ++index) {
    Delta delta;
    delta.finished = true;
    delta.finish = reason;
    publish(request, index, std::move(delta));
  }
}

void Engine::Call::step() {
  const sched::Batch batch = engine_.scheduler_.plan();
  std::vector<SamplingRow> rows;
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    if (chunk.sample) rows.push_back(active_.at(chunk.sequence).reply->sampling_row());
  }
  const std::span<const SampledToken> sampled = engine_.runner_.step(batch, rows);
  engine_.scheduler_.commit();
  size_t row = 0;
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    if (chunk.sample) advance(chunk.sequence, sampled[row++]);
  }
}

// Gives a sequence its token. All books are in order before the stream is called: it may throw.
void Engine::Call::advance(sched::SequenceId id, const SampledToken& sampled) {
  const auto found = active_.find(id);
  const size_t request = found->second.request;
  const int index = found->second.choice;
  Reply& reply = *found->second.reply;
  Completion& completion = completions_[request];
  const double now = watch_.seconds();
  if (completion.completion_tokens == 0) completion.prefill_seconds = now;
  completion.decode_seconds = now - completion.prefill_seconds;
  completion.completion_tokens += sampled.token >= 0 ? 1 : 0;

  Delta delta;
  reply.accept(sampled, delta);
  if (reply.finished()) {
    completion.choices[static_cast<size_t>(index)] = reply.take();
    engine_.scheduler_.finish(id);
    active_.erase(found);
  } else {
    engine_.scheduler_.append(id, sampled.token);
  }
  publish(request, index, std::move(delta));
}

void Engine::Call::cancel_all() {
  while (!active_.empty()) {
    const auto first = active_.begin();
    const size_t request = first->second.request;
    const int index = first->second.choice;
    Delta delta;
    first->second.reply->end(FinishReason::cancelled, "", delta);
    completions_[request].choices[static_cast<size_t>(index)] = first->second.reply->take();
    engine_.scheduler_.finish(first->first);
    active_.erase(first);
    publish(request, index, std::move(delta));
  }
}

void Engine::Call::publish(size_t request, int choice, Delta delta) const {
  if (!stream_) return;
  delta.request = static_cast<int>(request);
  delta.choice = choice;
  stream_(delta);
}

std::vector<Completion> Engine::generate(const std::vector<TokenRequest>& requests, const Stream& stream,
                                         const CancelToken* cancel) {
  Call call(*this, requests, stream);
  call.run(cancel);
  return call.take();
}

}  // namespace llamita
