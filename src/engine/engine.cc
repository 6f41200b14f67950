#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/pinning.h"
#include "base/timer.h"
#include "engine/validate.h"

namespace llamita {

namespace {

constexpr size_t kMostImagesAhead = 32;

int32_t choosable(const Model& model, const Tokenizer& tokenizer) {
  return std::min(model.config().vocab, tokenizer.vocab_size());
}

uint64_t system_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

// The CPU computes a step when it is sent: to send the next before the tokens are given out would only delay
// them.
int steps_under_way_of(const EngineConfig& config, const MemoryPlan& plan) {
  if (config.steps_under_way < 0 || config.steps_under_way > ModelRunner::kStepsUnderWay)
    throw Error(cat("steps_under_way must be between 0 and ", ModelRunner::kStepsUnderWay, ", not ",
                    config.steps_under_way));
  if (config.steps_under_way > 0) return config.steps_under_way;
  return plan.caps.device == DeviceKind::cpu ? 1 : 2;
}

sched::Limits limits_of(const EngineShape& shape, int steps_under_way, std::optional<uint64_t> hash_seed) {
  sched::Limits limits;
  limits.steps_under_way = steps_under_way;
  limits.batch_tokens = shape.batch_tokens;
  limits.batch_sequences = shape.batch_sequences;
  limits.context = shape.context;
  limits.prefixes.hash_seed = hash_seed ? *hash_seed : system_seed();
  return limits;
}

double seconds_between(Engine::Clock::time_point begin, Engine::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

std::vector<float> unit_length(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * value;
  const double scale = sum > 0 ? 1 / std::sqrt(sum) : 0;
  std::vector<float> out;
  out.reserve(values.size());
  for (const float value : values) out.push_back(static_cast<float>(value * scale));
  return out;
}

}  // namespace

struct Engine::Running {
  RequestId id;
  std::shared_ptr<const TokenRequest> request;
  StartOptions options;
  OnUpdate on_update;
  ReplyRules rules;
  Completion completion;
  std::vector<sched::SequenceId> open;  // of the choices that have not ended
  std::optional<Clock::time_point> begun, first_token;
};

Engine::Engine(const Model& model, const Tokenizer& tokenizer, const EngineConfig& config)
    : model_(model),
      tokenizer_(tokenizer),
      pool_(config.threads, parse_pinning(config.pin, "pin")),
      plan_(plan_steps(model, config, choosable_tokens(), pool_)),
      steps_under_way_(steps_under_way_of(config, plan_)),
      runner_(model, plan_, choosable_tokens(), pool_, config.fault),
      scheduler_(limits_of(plan_.shape, steps_under_way_, config.prefix_hash_seed), plan_.shape.kv_pages,
                 kPageTokens),
      model_stop_tokens_(tokenizer.stop_tokens()) {
  model_stop_tokens_.insert(model_stop_tokens_.end(), model.config().eos.begin(), model.config().eos.end());
  std::sort(model_stop_tokens_.begin(), model_stop_tokens_.end());
  const auto repeated = std::unique(model_stop_tokens_.begin(), model_stop_tokens_.end());
  model_stop_tokens_.erase(repeated, model_stop_tokens_.end());
}

Engine::~Engine() = default;

int32_t Engine::choosable_tokens() const { return choosable(model_, tokenizer_); }

void Engine::check(const TokenRequest& request) const {
  if (!request.error.empty()) throw Error(request.error);
  validate(request.sampling, choosable_tokens());
  validate_prompt(request.prompt, request.images, model_.config().vocab, context());
}

std::vector<Completion> Engine::generate(const std::vector<TokenRequest>& requests, const Stream& stream,
                                         const CancelToken* cancel) {
  // Whatever ends the call, an exception from the stream included, its requests leave the engine with it.
  struct Guard {
    Engine& engine;
    ~Guard() { engine.abandon(); }
  } guard{*this};
  std::vector<Completion> completions(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto on_update = [&, i](const Update& update) {
      if (update.done != nullptr) completions[i] = *update.done;
      if (!stream) return;
      Delta delta = update.delta;
      delta.request = static_cast<int>(i);
      stream(delta);
    };
    const std::shared_ptr<const TokenRequest> borrowed(std::shared_ptr<void>(), &requests[i]);
    start(i, borrowed, {}, on_update);
  }
  while (!idle()) {
    if (cancel != nullptr && cancel->cancelled()) end_all(FinishReason::cancelled);
    step();
  }
  return completions;
}

void Engine::start(RequestId id, std::shared_ptr<const TokenRequest> request, const StartOptions& options,
                   OnUpdate on_update) {
  auto owned = std::make_unique<Running>();
  Running& running = *owned;
  running.id = id;
  running.request = std::move(request);
  running.options = options;
  running.on_update = std::move(on_update);
  const auto& [prompt, params, error, embedding, form, images, error_code] = *running.request;
  running.completion.prompt_tokens = static_cast<int>(prompt.size());
  try {
    check(*running.request);
  } catch (const Error& failure) {
    return end_unstarted(running, FinishReason::error, failure.what(), error_code);
  }
  if (params.max_tokens == 0 && !embedding) return end_unstarted(running, FinishReason::length);

  const int choices = embedding ? 1 : params.n;
  running.completion.seed = params.seed ? *params.seed : system_seed();
  running.completion.choices.resize(static_cast<size_t>(choices));
  ReplyRules& rules = running.rules;
  rules.params = &params;
  rules.seed = running.completion.seed;
  rules.room = context() - running.completion.prompt_tokens;
  if (params.max_tokens >= 0) rules.room = std::min(rules.room, params.max_tokens);
  rules.stop_tokens = params.stop_token_ids;
  if (!params.ignore_eos) {
    rules.stop_tokens.insert(rules.stop_tokens.end(), model_stop_tokens_.begin(), model_stop_tokens_.end());
  }
  std::sort(rules.stop_tokens.begin(), rules.stop_tokens.end());
  rules.form = form;
  requests_[id] = std::move(owned);
  count_unstarted(running, 1);
  sched::SequenceOptions sequence_options;
  sequence_options.priority = options.priority;
  sequence_options.salt = options.cache_salt;
  sequence_options.overlap = form == nullptr && !embedding;
  sequence_options.longest = running.completion.prompt_tokens + rules.room;
  for (int choice = 0; choice < choices; ++choice) {
    auto reply = std::make_unique<Reply>(tokenizer_, rules, choice, prompt);
    const sched::SequenceId sequence = scheduler_.add(prompt, sequence_options);
    running.open.push_back(sequence);
    choosing_.emplace(sequence, Choosing{&running, choice, std::move(reply)});
  }
}

void Engine::end_unstarted(Running& running, FinishReason reason, const std::string& why,
                           const std::string& code) {
  const SamplingParams& params = running.request->sampling;
  running.completion.seed = params.seed.value_or(0);
  Choice choice;
  choice.finish = reason;
  choice.error = why;
  choice.error_code = code;
  const int choices = running.request->embedding ? 1 : std::clamp(params.n, 1, kMaxChoices);
  running.completion.choices.assign(static_cast<size_t>(choices), choice);
  for (int index = 0; index < choices; ++index) {
    Update update;
    update.delta.choice = index;
    update.delta.finished = true;
    update.delta.finish = reason;
    if (index + 1 == choices) update.done = &running.completion;
    publish(running, update);
  }
}

void Engine::end(RequestId id, FinishReason reason, const std::string& why, const std::string& code) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  if (reason == FinishReason::cancelled) count_cancelled(*found->second);
  const std::vector<sched::SequenceId> open = found->second->open;
  for (const sched::SequenceId sequence : open) {
    Choosing& choosing = choosing_.at(sequence);
    Update update;
    update.delta.choice = choosing.choice;
    choosing.reply->end(reason, why, update.delta, code);
    close(sequence, update);
  }
}

void Engine::end_all(FinishReason reason) {
  while (!requests_.empty()) end(requests_.begin()->first, reason);
}

void Engine::end_overdue() {
  const auto now = Clock::now();
  std::vector<RequestId> overdue;
  for (const auto& [id, running] : requests_) {
    const StartOptions& options = running->options;
    const bool late = options.deadline && *options.deadline <= now;
    const bool begun = running->begun || (options.group_begun != nullptr && *options.group_begun);
    const bool unserved = !begun && options.begin_by && *options.begin_by <= now;
    if (late || unserved) overdue.push_back(id);
  }
  for (const RequestId id : overdue) end(id, FinishReason::deadline);
}

void Engine::step() {
  end_overdue();
  const bool may_send = flights_.empty() || !flights_.back().waits;
  const bool sent = !requests_.empty() && may_send && send_step();
  const bool full = static_cast<int>(flights_.size()) == steps_under_way_;
  if (!flights_.empty() && (!sent || full || flights_.back().waits)) give_out_oldest();
}

// False when all work waits for steps under way.
bool Engine::send_step() {
  sched::Batch batch = scheduler_.plan();
  if (batch.empty()) return false;
  flights_.push_back(describe(std::move(batch)));
  Flight& flight = flights_.back();
  note_begun(flight.batch);
  flight.ticket =
      runner_.submit(flight.batch, sampling_rows(flight.batch), flight.embeds, images_of(flight.batch));
  return true;
}

Engine::Flight Engine::describe(sched::Batch batch) const {
  Flight flight;
  flight.sent = Clock::now();
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    const Choosing& choosing = choosing_.at(chunk.sequence);
    const TokenRequest& request = *choosing.request->request;
    const int tokens = chunk.end - chunk.begin;
    const bool decode = tokens == 1 && chunk.begin >= choosing.request->completion.prompt_tokens;
    (decode ? flight.decode_tokens : flight.prefill_tokens) += tokens;
    flight.embeds |= chunk.sample && request.embedding;
    flight.waits |= chunk.sample && (request.embedding || request.form != nullptr);
  }
  flight.batch = std::move(batch);
  return flight;
}

// Waits for the oldest step and gives its tokens to the replies that still want them.
void Engine::give_out_oldest() {
  const Flight& flight = flights_.front();
  const std::span<const SampledToken> sampled = runner_.collect(flight.ticket);
  scheduler_.commit();
  count(flight);
  size_t row = 0;
  int tokens = 0;
  for (const sched::Batch::Chunk& chunk : flight.batch.chunks) {
    tokens += chunk.end - chunk.begin;
    if (!chunk.sample) continue;
    const SampledToken& token = sampled[row++];
    if (choosing_.count(chunk.sequence) != 0) advance(chunk.sequence, token, tokens - 1);
  }
  flights_.pop_front();
}

void Engine::note_begun(const sched::Batch& batch) {
  const auto now = Clock::now();
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    Choosing& choosing = choosing_.at(chunk.sequence);
    if (choosing.begun) continue;
    choosing.begun = true;
    Running& running = *choosing.request;
    counters_.prefix_hit_tokens += chunk.begin;
    counters_.prefix_query_tokens += running.completion.prompt_tokens;
    if (running.begun) continue;
    running.begun = now;
    if (running.options.group_begun != nullptr) *running.options.group_begun = true;
    running.completion.queue_seconds = seconds_between(running.options.submitted, now);
    running.completion.cached_tokens = chunk.begin;
    count_unstarted(running, -1);
  }
}

void Engine::count_unstarted(const Running& request, int change) {
  unstarted_ += change;
  unstarted_tokens_ += change * int64_t{request.completion.prompt_tokens};
}

void Engine::count_cancelled(const Running& request) {
  ++(request.first_token ? counters_.cancelled_decode
     : request.begun     ? counters_.cancelled_prefill
                         : counters_.cancelled_queued);
}

std::vector<SamplingRow> Engine::sampling_rows(const sched::Batch& batch) const {
  std::vector<SamplingRow> rows;
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    if (!chunk.sample) continue;
    rows.push_back(choosing_.at(chunk.sequence).reply->sampling_row());
    rows.back().position = static_cast<uint64_t>(chunk.end);  // of a token of the step before, one further
  }
  return rows;
}

// The step's parts of images, and the images of requests that wait, so that a pass through the vision tower
// serves several requests.
StepImages Engine::images_of(const sched::Batch& batch) const {
  StepImages images;
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    for (const ImageSpan& span : choosing_.at(chunk.sequence).request->request->images) {
      const int begin = std::max(chunk.begin, span.begin), end = std::min(chunk.end, span.end);
      if (begin < end) images.rows.push_back({span.image, begin - span.begin, end - span.begin});
    }
  }
  if (images.rows.empty()) return images;
  for (const auto& [id, running] : requests_) {
    if (running->first_token) continue;
    for (const ImageSpan& span : running->request->images) {
      if (images.ahead.size() < kMostImagesAhead) images.ahead.push_back(span.image);
    }
  }
  return images;
}

void Engine::count(const Flight& flight) {
  const auto now = Clock::now();
  counters_.step_prefill_tokens = flight.prefill_tokens;
  counters_.step_decode_tokens = flight.decode_tokens;
  counters_.prompt_tokens += flight.prefill_tokens;
  counters_.step_tokens += flight.prefill_tokens + flight.decode_tokens;
  // While two are under way a step takes the time since the one before it was done.
  counters_.step_seconds = seconds_between(std::max(flight.sent, last_given_out_), now);
  last_given_out_ = now;
  ++counters_.steps;
}

// Gives a sequence its token. All books are in order before on_update is called: it may throw.
void Engine::advance(sched::SequenceId id, const SampledToken& sampled, int last_token) {
  Choosing& choosing = choosing_.at(id);
  Running& running = *choosing.request;
  Completion& completion = running.completion;
  const auto now = Clock::now();
  if (!running.first_token) {
    running.first_token = now;
    completion.prefill_seconds = seconds_between(*running.begun, now);
  }
  completion.decode_seconds = seconds_between(*running.first_token, now);
  if (running.request->embedding) return embed(id, last_token);
  completion.completion_tokens += sampled.token >= 0 ? 1 : 0;
  ++counters_.generated_tokens;

  Update update;
  update.delta.choice = choosing.choice;
  if (sampled.token >= 0) update.tokens.push_back(sampled.token);
  choosing.reply->accept(sampled, update.delta);
  if (choosing.reply->finished()) {
    const std::string code = choosing.reply->choice().error_code, why = choosing.reply->choice().error;
    const RequestId request = running.id;
    close(id, update);
    // The other choices are held to the same grammar: they would go on to take the time of others.
    if (!code.empty()) end(request, FinishReason::error, why, code);
    return;
  }
  scheduler_.append(id, sampled.token);
  publish(running, update);
}

void Engine::embed(sched::SequenceId id, int last_token) {
  Choosing& choosing = choosing_.at(id);
  choosing.request->completion.embedding = unit_length(runner_.hidden(last_token));
  Update update;
  choosing.reply->end(FinishReason::stop, "", update.delta);
  close(id, update);
}

// The choice has ended: it leaves the scheduler, and with the last one its request ends.
void Engine::close(sched::SequenceId id, Update& update) {
  const auto found = choosing_.find(id);
  Running& running = *found->second.request;
  running.completion.choices[static_cast<size_t>(found->second.choice)] = found->second.reply->take();
  scheduler_.finish(id);
  choosing_.erase(found);
  std::erase(running.open, id);
  if (!running.open.empty()) return publish(running, update);
  const auto request = requests_.find(running.id);
  const std::unique_ptr<Running> ended = std::move(request->second);
  requests_.erase(request);
  if (!ended->begun) count_unstarted(*ended, -1);
  update.done = &ended->completion;
  publish(*ended, update);
}

void Engine::publish(Running& running, Update& update) {
  if (running.on_update) running.on_update(update);
}

void Engine::fail_step(const std::string& why) {
  scheduler_.abandon();
  std::vector<RequestId> failed;
  for (const Flight& flight : flights_) {
    for (const sched::Batch::Chunk& chunk : flight.batch.chunks) {
      const auto found = choosing_.find(chunk.sequence);
      if (found != choosing_.end()) failed.push_back(found->second.request->id);
    }
  }
  flights_.clear();
  for (const RequestId id : failed) end(id, FinishReason::error, why);
}

void Engine::fail_all(const std::string& why) {
  scheduler_.abandon();
  flights_.clear();
  while (!requests_.empty()) end(requests_.begin()->first, FinishReason::error, why);
}

void Engine::abandon() {
  scheduler_.abandon();
  for (const auto& [id, choosing] : choosing_) scheduler_.finish(id);
  choosing_.clear();
  requests_.clear();
  flights_.clear();
  unstarted_ = 0;
  unstarted_tokens_ = 0;
}

EngineStats Engine::stats() const {
  EngineStats stats = counters_;
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  stats.preemptions = scheduler_.preemptions();
  const kv::BlockPool& pool = scheduler_.pool();
  stats.blocks = pool.blocks();
  stats.block_tokens = kPageTokens;
  stats.blocks_kept = pool.idle_blocks();
  stats.blocks_used = pool.blocks() - pool.free_blocks() - pool.idle_blocks();
  stats.blocks_shared = pool.shared_blocks();
  return stats;
}

}  // namespace llamita
