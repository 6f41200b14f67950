#include "sim/engine_simulation.h"

#include <algorithm>
#include <string>

#include "llamita/error.h"
#include "sim/violation.h"

namespace llamita::sim {

namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr int kPositions = 512;
constexpr int kLongSeeds = 4;  // one in so many runs for about 2,000 steps
constexpr int kCompared = 2;   // one in so many replies is compared with the one alone, which costs as much
constexpr const char* kFailure = "a step that fails";

EngineConfig config_of(int pages, int batch_tokens, int batch_sequences) {
  EngineConfig config;
  config.kv_dtype = "f32";
  config.threads = 1;
  config.pin = "off";
  config.batch_tokens = batch_tokens;
  config.batch_sequences = batch_sequences;
  config.kv_bytes =
      int64_t{pages} * kPageTokens * 2 * 2 * 2 * 4;  // FakeModel: 2 layers, K and V, 2 numbers in f32
  return config;
}

// The replies of a request that has an engine for itself. It knows no prefixes: each request has a salt of
// its own.
std::vector<std::vector<int32_t>> solo_replies(const TokenRequest& request, int context) {
  static const test::FakeModel model(64, kPositions);
  static const test::FakeTokenizer tokenizer = test::FakeTokenizer::letters();
  static Engine engine(model, tokenizer, config_of(kPositions / kPageTokens * 4, kPositions, 4));
  TokenRequest alone = request;
  const int room = context - static_cast<int>(request.prompt.size());
  if (alone.sampling.max_tokens < 0 || alone.sampling.max_tokens > room) alone.sampling.max_tokens = room;
  static RequestId id = 0;
  Engine::StartOptions options;
  options.cache_salt = std::to_string(++id);
  std::vector<std::vector<int32_t>> replies;
  engine.start(id, std::make_shared<const TokenRequest>(alone), options, [&](const Update& update) {
    if (update.done == nullptr) return;
    require(update.done->cached_tokens == 0, "a request alone finds a prefix");
    for (const Choice& choice : update.done->choices) replies.push_back(choice.tokens);
  });
  while (!engine.idle()) engine.step();
  return replies;
}

}  // namespace

EngineTally& EngineTally::operator+=(const EngineTally& other) {
  steps += other.steps;
  submitted += other.submitted;
  tokens += other.tokens;
  finished += other.finished;
  cancelled += other.cancelled;
  overdue += other.overdue;
  failed += other.failed;
  overdue_unbegun += other.overdue_unbegun;
  forced += other.forced;
  preemptions += other.preemptions;
  wall_jumps += other.wall_jumps;
  sleeps += other.sleeps;
  compared += other.compared;
  stopped += other.stopped;
  lost += other.lost;
  begun_in_time += other.begun_in_time;
  events.add(other.events.value());
  return *this;
}

EngineSimulation::EngineSimulation(uint64_t seed)
    : random_(seed),
      model_(64, kPositions),
      tokenizer_(test::FakeTokenizer::letters()),
      pages_(2 + below(7)),
      engine_(model_, tokenizer_, random_config()),
      fault_rate_(one_in(3) ? 1'000'000 : 10 + below(30)),
      runs_long_(one_in(kLongSeeds)),
      to_submit_(runs_long_ ? 200 + below(200) : 5 + below(15)) {
  model_.on_step = [this](const ForwardBatch&) {
    clocks_.pass(one_in(fault_rate_) ? milliseconds(below(20'000)) : milliseconds(1 + below(20)));
    if (std::exchange(step_fails_, false)) throw Error(kFailure);
  };
}

EngineConfig EngineSimulation::random_config() {
  const int batch_sequences = 1 + below(6);
  EngineConfig config = config_of(pages_, batch_sequences + below(100), batch_sequences);
  config.steps_under_way = 1 + below(2);
  config.prefix_hash_seed = random_();
  if (one_in(3)) config.context = 2 + below(pages_ * kPageTokens - 1);
  return config;
}

EngineTally EngineSimulation::run() {
  const int64_t last = one_in(4) ? 10 + below(200) : 1'000'000;
  while (to_submit_ > 0 || !engine_.idle()) {
    require(++tally_.steps < 30'000, "no end in sight");
    if (tally_.steps > last) {
      end_early();
      break;
    }
    submit_some();
    disturb_clocks();
    if (one_in(fault_rate_)) cancel_one();
    step();
  }
  while (!engine_.idle()) step();  // what is under way at the end
  check_end();
  return tally_;
}

void EngineSimulation::submit_some() {
  while (to_submit_ > 0 && one_in(6)) {
    --to_submit_;
    submit(one_in(2 * fault_rate_));
  }
}

// `large`: it ranks before all others and needs all there is, so that they must go.
TokenRequest EngineSimulation::random_request(bool large) {
  TokenRequest request;
  const int room = engine_.context() - 1;
  const int most = large ? room : std::min(room, 1 + below(120));
  const int length = large ? room : 1 + below(most);
  const bool alike = one_in(2);  // begins as others do
  for (int i = 0; i < length; ++i) request.prompt.push_back(alike ? i % 7 : below(62));
  SamplingParams& params = request.sampling;
  params.max_tokens = one_in(8) ? -1 : 1 + below(60);
  params.n = one_in(5) ? 1 + below(3) : 1;
  params.seed = random_();
  params.temperature = one_in(2) ? 0.0f : 0.9f;
  params.ignore_eos = one_in(2);
  if (one_in(2)) params.stop_token_ids = {below(62), below(62)};
  return request;
}

void EngineSimulation::submit(bool large) {
  const RequestId id = next_id_++;
  Live live;
  live.request = std::make_shared<const TokenRequest>(random_request(large));
  live.options.priority = large ? -1 : below(3);
  live.options.cache_salt = one_in(4) ? "other" : "";
  live.options.submitted = Clock::now();
  if (one_in(4)) live.options.deadline = Clock::now() + milliseconds(below(1500));
  if (one_in(4)) live.options.begin_by = Clock::now() + milliseconds(below(400));
  const auto choices = static_cast<size_t>(live.request->sampling.n);
  live.tokens.resize(choices);
  live.ended.resize(choices);
  ++tally_.submitted;
  tally_.forced += large ? 1 : 0;
  const auto& added = live_.emplace(id, std::move(live)).first->second;
  const auto request = added.request;  // it may end at once
  const Engine::StartOptions options = added.options;
  engine_.start(id, request, options, [this, id](const Update& update) { hear(id, update); });
}

void EngineSimulation::disturb_clocks() {
  clocks_.pass(milliseconds(below(5)));
  if (one_in(20)) {
    ++tally_.wall_jumps;
    clocks_.set_wall(std::chrono::seconds(below(400'000) - 200'000));
  }
  if (one_in(40 * std::min(fault_rate_, 20))) {
    ++tally_.sleeps;
    clocks_.pass(std::chrono::hours(1 + below(10)));
  }
}

void EngineSimulation::cancel_one() {
  if (live_.empty()) return;
  auto victim = live_.begin();
  std::advance(victim, below(static_cast<int>(live_.size())));
  const RequestId id = victim->first;
  asked_ = FinishReason::cancelled;
  engine_.end(id, FinishReason::cancelled);
  asked_.reset();
  require(live_.count(id) == 0, "a request that was cancelled lives");
  engine_.end(id, FinishReason::cancelled);  // once more means nothing
}

void EngineSimulation::step() {
  step_fails_ = one_in(3 * fault_rate_);
  const Clock::time_point began = Clock::now();
  try {
    engine_.step();
  } catch (const Violation&) {
    throw;
  } catch (const Error& error) {
    require(error.what() == std::string(kFailure), error.what());
    const int64_t failed = tally_.failed;
    failing_ = true;
    engine_.fail_step(kFailure);
    failing_ = false;
    require(tally_.failed > failed, "a step fails and nobody hears of it");
  }
  step_fails_ = false;
  check_step(began);
}

// A signal, or a device that is lost.
void EngineSimulation::end_early() {
  to_submit_ = 0;
  if (one_in(2)) {
    ++tally_.stopped;
    asked_ = FinishReason::cancelled;
    engine_.end_all(FinishReason::cancelled);
  } else {
    ++tally_.lost;
    failing_ = true;
    engine_.fail_all(kFailure);
    failing_ = false;
    require(engine_.idle(), "steps of a device that is lost are under way");
  }
  asked_.reset();
  require(live_.empty(), live_.size(), " requests outlive the end of all");
}

void EngineSimulation::hear(RequestId id, const Update& update) {
  const auto found = live_.find(id);
  require(found != live_.end(), "news of request ", id, " after its end");
  Live& live = found->second;
  const auto choice = static_cast<size_t>(update.delta.choice);
  tally_.events.add(Clock::now().time_since_epoch().count(), id, choice, update.delta.finished,
                    static_cast<int>(update.delta.finish));
  for (const int32_t token : update.tokens) tally_.events.add(token);
  require(!live.ended.at(choice), "news of a choice after its end");
  live.tokens[choice].insert(live.tokens[choice].end(), update.tokens.begin(), update.tokens.end());
  tally_.tokens += static_cast<int64_t>(update.tokens.size());
  if (update.delta.finished) live.ended[choice] = true;
  const bool all = std::all_of(live.ended.begin(), live.ended.end(), [](bool ended) { return ended; });
  require(all == (update.done != nullptr), "request ", id,
          all ? " ended and nobody said so" : " is done too early");
  if (update.done == nullptr) return;
  const Live ended = std::move(live);
  live_.erase(found);
  check_done(id, ended, *update.done);
}

void EngineSimulation::check_done(RequestId id, const Live& live, const Completion& done) {
  require(done.choices.size() == live.tokens.size(), "request ", id, " has ", done.choices.size(),
          " choices");
  size_t emitted = 0;
  for (size_t i = 0; i < done.choices.size(); ++i) {
    emitted += live.tokens[i].size();
    require(done.choices[i].tokens == live.tokens[i], "a choice ends with other tokens than were given");
  }
  require(done.completion_tokens == static_cast<int>(emitted), "usage says ", done.completion_tokens,
          " tokens, ", emitted, " were given");
  const auto prompt = static_cast<int>(live.request->prompt.size());
  require(done.prompt_tokens == prompt, "usage says a prompt of ", done.prompt_tokens, " tokens, it has ",
          prompt);
  require(done.cached_tokens >= 0 && done.cached_tokens < prompt, done.cached_tokens,
          " tokens of a prompt of ", prompt, " were cached");
  check_times(live, done);
  check_replies(live, done);
}

// By the monotonic clock, wherever the wall clock stands.
void EngineSimulation::check_times(const Live& live, const Completion& done) {
  require(done.queue_seconds >= 0 && done.prefill_seconds >= 0 && done.decode_seconds >= 0,
          "a time below zero");
  const double all = std::chrono::duration<double>(Clock::now() - live.options.submitted).count();
  require(done.queue_seconds + done.prefill_seconds + done.decode_seconds <= all + 1e-9,
          "the parts of a request took longer than all of it");
  if (!live.options.begin_by || done.queue_seconds == 0) return;  // 0: no step had part of it
  const double most = std::chrono::duration<double>(*live.options.begin_by - live.options.submitted).count();
  require(done.queue_seconds <= most + 1e-9, "a request begins after ", done.queue_seconds,
          " s, and should within ", most);
  ++tally_.begun_in_time;
}

void EngineSimulation::check_replies(const Live& live, const Completion& done) {
  const auto now = Clock::now();
  const Engine::StartOptions& options = live.options;
  const bool compare = one_in(kCompared);
  const auto solo =
      compare ? solo_replies(*live.request, engine_.context()) : std::vector<std::vector<int32_t>>();
  tally_.compared += compare ? 1 : 0;
  bool cut = false;
  for (size_t i = 0; i < done.choices.size(); ++i) {
    const Choice& choice = done.choices[i];
    bool whole = false;
    switch (choice.finish) {
      case FinishReason::stop:
      case FinishReason::length: whole = true; break;
      case FinishReason::cancelled:
        require(asked_ == FinishReason::cancelled, "a request is cancelled and nobody asked for it");
        break;
      case FinishReason::deadline: {
        const bool late = options.deadline && *options.deadline <= now;
        const bool unserved = options.begin_by && *options.begin_by <= now && done.queue_seconds == 0;
        require(late || unserved, "a request ends before its time");
        tally_.overdue_unbegun += late ? 0 : 1;
        break;
      }
      case FinishReason::error:
        require(failing_ && choice.error == kFailure, "a request fails in a step that does not");
        break;
    }
    cut = cut || !whole;
    if (!compare) continue;
    const std::vector<int32_t>& alone = solo[i];
    const bool same = whole ? choice.tokens == alone
                            : choice.tokens.size() <= alone.size() &&
                                  std::equal(choice.tokens.begin(), choice.tokens.end(), alone.begin());
    require(same, "a reply differs from the one alone");
  }
  const auto any = [&](FinishReason reason) {
    const auto ends_so = [&](const Choice& choice) { return choice.finish == reason; };
    return std::any_of(done.choices.begin(), done.choices.end(), ends_so) ? 1 : 0;
  };
  tally_.finished += cut ? 0 : 1;
  tally_.cancelled += any(FinishReason::cancelled);
  tally_.overdue += any(FinishReason::deadline);
  tally_.failed += any(FinishReason::error);
}

void EngineSimulation::check_step(Clock::time_point began) {
  for (const auto& [id, live] : live_) {
    require(!live.options.deadline || *live.options.deadline > began, "request ", id,
            " outlives its deadline");
  }
  const std::string wrong = engine_.scheduler().check_integrity();
  require(wrong.empty(), wrong);
  const EngineStats stats = engine_.stats();
  require(stats.generated_tokens == tally_.tokens, "the engine counts ", stats.generated_tokens, " tokens, ",
          tally_.tokens, " were given");
  size_t open = 0;
  for (const auto& [id, live] : live_)
    open += static_cast<size_t>(std::count(live.ended.begin(), live.ended.end(), false));
  require(static_cast<size_t>(stats.running + stats.waiting) == open, stats.running, " running and ",
          stats.waiting, " waiting of ", open);
}

void EngineSimulation::check_end() {
  const EngineStats stats = engine_.stats();
  tally_.preemptions = stats.preemptions;
  require(live_.empty(), live_.size(), " requests never ended");
  require(stats.blocks_used == 0, "idle, and ", stats.blocks_used, " blocks are in use");
  require(engine_.unstarted() == 0 && engine_.unstarted_tokens() == 0, "idle, and ", engine_.unstarted(),
          " requests with ", engine_.unstarted_tokens(), " tokens are said to wait");
  const std::string wrong = engine_.scheduler().check_integrity();
  require(wrong.empty(), wrong);
}

}  // namespace llamita::sim
