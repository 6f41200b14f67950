// FakeEngine: an AsyncEngine without a model, for tests of the server. Tokens are words; a reply is
// SCRIPT's words if one is set, else deterministic ones. One step thread gives each running sequence a word a
// step, at a speed that tests choose, or a step at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/cat.h"
#include "llamita/async_engine.h"
#include "llamita/request_error.h"

namespace llamita::test {

class FakeEngine : public AsyncEngine {
 public:
  struct Options {
    int running = 64;  // requests that run at once
    int queue = 256;   // that wait
    std::chrono::microseconds step{200};
    int context = 1 << 20;
    bool paused = false;
    int image_tokens = 0;  // above 0: it takes images
    bool takes_tools = true;
  };
  FakeEngine() : FakeEngine(Options{}) {}
  explicit FakeEngine(Options options) : options_(options), paused_(options.paused) {
    info_.name = "fake";
    info_.family = "qwen2";
    info_.context = options.context;
    info_.vocab_size = 1000;
    info_.has_chat_template = true;
    info_.image_tokens = options.image_tokens;
    info_.takes_tools = options.takes_tools;
    thread_ = std::thread([this] { run(); });
  }
  ~FakeEngine() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  // What replies say, word by word (words keep the space before them); "" again for the usual words.
  void script(std::string text) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(text);
  }
  // The second word of every reply from now on is an error.
  void fail(std::string why, std::string code) {
    const std::lock_guard lock(mutex_);
    failure_ = {std::move(why), std::move(code)};
  }
  // At its next step the device is lost: all requests end with an error, and new ones find no room.
  void lose_device() {
    const std::lock_guard lock(mutex_);
    losing_ = true;
    wake_.notify_all();
  }
  // While it is held, tokenize() does not return.
  void hold_tokenize(bool held) {
    const std::lock_guard lock(mutex_);
    tokenize_held_ = held;
    tokenized_.notify_all();
  }
  // While it is held, prepare() does not return.
  void hold_prepare(bool held) {
    const std::lock_guard lock(mutex_);
    prepare_held_ = held;
    prepare_let_go_.notify_all();
  }
  // The same, only for requests with pictures.
  void hold_pictures(bool held) {
    const std::lock_guard lock(mutex_);
    pictures_held_ = held;
    prepare_let_go_.notify_all();
  }
  // While it is held, requests that run say nothing, as in a long prefill.
  void hold_prefill(bool held) { prefill_held_ = held; }
  // Stops and lets go the step thread.
  void pause(bool paused) {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
    wake_.notify_all();
  }
  void pretend(std::function<void(EngineStats&)> change) {
    const std::lock_guard lock(mutex_);
    change_ = std::move(change);
  }
  int cancelled() const { return cancelled_; }
  int prepared() const { return prepared_; }  // requests that came to prepare()
  Request last_request() const {
    const std::lock_guard lock(mutex_);
    return last_;
  }
  int last_priority() const {
    const std::lock_guard lock(mutex_);
    return priority_;
  }
  std::string last_salt() const {
    const std::lock_guard lock(mutex_);
    return salt_;
  }

  std::shared_ptr<const PreparedRequest> prepare(const Request& request) const override {
    ++prepared_;
    {
      std::unique_lock lock(mutex_);
      const bool seeing = !files_of(request).empty();
      prepare_let_go_.wait(lock, [&] { return !prepare_held_ && !(seeing && pictures_held_); });
    }
    auto prepared = std::make_shared<Prepared>();
    prepared->request = request;
    std::string text;
    if (const auto* conversation = std::get_if<Conversation>(&request.prompt)) {
      for (const Message& message : *conversation) text += message.role + " " + message.content + " ";
    } else if (const auto* plain = std::get_if<std::string>(&request.prompt)) {
      text = *plain;
    }
    prepared->tokens = static_cast<int>(words(text).size());
    if (const auto* ids = std::get_if<std::vector<int32_t>>(&request.prompt)) {
      prepared->tokens = static_cast<int>(ids->size());
    }
    using Fault = RequestError::Fault;
    if (prepared->tokens == 0) throw RequestError(Fault::prompt, "the prompt has no tokens");
    if (prepared->tokens >= info_.context) throw RequestError(Fault::prompt_size, "the prompt is too long");
    if (!request.chat.tools.empty() && !info_.takes_tools) throw RequestError(Fault::tools, "no tools here");
    if (request.sampling.constraint.text == "no form") throw RequestError(Fault::form, "this is no form");
    if (request.sampling.constraint.text == R"({"type":"no form"})") {
      throw RequestError(Fault::form, "this is no form");
    }
    const std::vector<std::string> files = files_of(request);
    const auto bad = std::find(files.begin(), files.end(), "no image");
    if (bad != files.end())
      throw PictureError(static_cast<size_t>(bad - files.begin()), "image N: no PNG, JPEG or WebP image");
    const std::lock_guard lock(mutex_);
    last_ = request;
    return prepared;
  }

  std::optional<std::vector<RequestId>> submit_all(
      std::vector<std::shared_ptr<const PreparedRequest>> requests, const SubmitOptions& options,
      OnGroupUpdate on_update) override {
    const std::lock_guard lock(mutex_);
    if (!room_for(requests.size())) return std::nullopt;
    std::vector<RequestId> ids;
    for (size_t i = 0; i < requests.size(); ++i) {
      auto sequence = std::make_shared<Sequence>();
      sequence->prepared = std::static_pointer_cast<const Prepared>(requests[i]);
      sequence->on_update = [on_update, i](const Update& update) { on_update(i, update); };
      sequence->submitted = std::chrono::steady_clock::now();
      sequence->deadline = options.deadline;
      sequence->queue_timeout = options.queue_timeout;
      sequence->begun = options.begun;
      ids.push_back(++last_id_);
      waiting_.emplace_back(ids.back(), sequence);
    }
    salt_ = options.cache_salt;
    priority_ = options.priority;
    progress_ = std::chrono::steady_clock::now();
    wake_.notify_all();
    return ids;
  }
  bool has_room() const override {
    const std::lock_guard lock(mutex_);
    return room_for(1);
  }
  void cancel(RequestId id) override {
    const std::lock_guard lock(mutex_);
    cancelling_.push_back(id);
    wake_.notify_all();
  }
  void drain() override {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }

  EngineStats stats() const override {
    const std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.running = static_cast<int>(running_.size());
    stats.waiting = static_cast<int>(waiting_.size());
    stats.busy = stats.running + stats.waiting > 0;
    stats.blocks = 100;
    stats.blocks_used = stats.running;
    stats.progress_at = progress_;
    if (change_) change_(stats);
    return stats;
  }
  const ModelInfo& info() const override { return info_; }
  std::vector<int32_t> tokenize(std::string_view text, bool add_special) const override {
    {
      std::unique_lock lock(mutex_);
      tokenized_.wait(lock, [this] { return !tokenize_held_; });
    }
    std::vector<int32_t> tokens;
    if (add_special) tokens.push_back(1);
    for (const std::string& word : words(text)) tokens.push_back(static_cast<int32_t>(2 + word.size()));
    return tokens;
  }
  std::string detokenize(const std::vector<int32_t>& tokens) const override {
    std::string text;
    for (const int32_t token : tokens) text += cat("<", token, ">");
    return text;
  }

  static std::vector<std::string> files_of(const Request& request) {
    std::vector<std::string> files;
    const auto* conversation = std::get_if<Conversation>(&request.prompt);
    if (conversation == nullptr) return files;
    for (const Message& message : *conversation)
      for (const Picture& picture : message.pictures) files.push_back(*picture.file);
    return files;
  }

  // Pieces that begin with their spaces.
  static std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> out;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool begins = i == 0 || (text[i] == ' ' && text[i - 1] != ' ');
      if (begins) out.emplace_back();
      out.back() += text[i];
    }
    return out;
  }

 private:
  struct Prepared : PreparedRequest {
    Request request;
    int tokens = 0;
    int prompt_tokens() const override { return tokens; }
  };
  struct Sequence {
    std::shared_ptr<const Prepared> prepared;
    OnUpdate on_update;
    std::chrono::steady_clock::time_point submitted;
    std::optional<std::chrono::milliseconds> deadline, queue_timeout;
    std::shared_ptr<std::atomic<bool>> begun;
    int at = 0;
    Completion completion;
  };
  using Entry = std::pair<RequestId, std::shared_ptr<Sequence>>;

  bool room_for(size_t requests) const {
    if (draining_ || stats_.device_lost) return false;
    return waiting_.empty() || waiting_.size() + requests <= static_cast<size_t>(options_.queue);
  }

  std::string word(int i, int choice) const {
    static const char* const kWords[] = {"one", " two", " three", " four", " five", " six", " seven"};
    return choice == 0 ? kWords[i % 7] : cat(kWords[i % 7], choice);
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] {
        return stopping_ || losing_ || !cancelling_.empty() ||
               (!paused_ && running_.size() + waiting_.size() > 0);
      });
      std::vector<Entry> cut = take_cancelled(), late = take_unserved();
      if (stopping_) {
        for (const Entry& entry : running_) cut.push_back(entry);
        for (const Entry& entry : waiting_) cut.push_back(entry);
        running_.clear();
        waiting_.clear();
      }
      std::vector<Entry> lost;
      if (std::exchange(losing_, false)) {
        stats_.device_lost = true;
        for (auto* entries : {&running_, &waiting_}) {
          lost.insert(lost.end(), entries->begin(), entries->end());
          entries->clear();
        }
      }
      const bool stopping = stopping_, paused = paused_;
      std::vector<Entry> step;
      if (!stopping && !paused) step = take_step();
      const std::string script = script_;
      const auto failure = failure_;
      lock.unlock();
      for (const Entry& entry : cut) end(*entry.second, FinishReason::cancelled);
      for (const Entry& entry : late) end(*entry.second, FinishReason::deadline);
      for (const Entry& entry : lost) {
        entry.second->completion.choices.resize(1);
        fail(*entry.second, {"the device is lost", ""});
      }
      cut.clear();
      late.clear();
      lost.clear();
      if (stopping) return;
      std::vector<RequestId> done;
      for (const Entry& entry : step) {
        const bool fails = !failure.first.empty() && entry.second->at == 1;
        if (fails) fail(*entry.second, failure);
        if (fails || advance(*entry.second, script)) done.push_back(entry.first);
      }
      if (!step.empty()) std::this_thread::sleep_for(options_.step);
      step.clear();
      lock.lock();
      for (const RequestId id : done) drop(running_, id);
      progress_ = std::chrono::steady_clock::now();
    }
  }

  static std::shared_ptr<Sequence> drop(std::deque<Entry>& from, RequestId id) {
    for (auto at = from.begin(); at != from.end(); ++at) {
      if (at->first != id) continue;
      auto sequence = at->second;
      from.erase(at);
      return sequence;
    }
    return nullptr;
  }

  std::vector<Entry> take_cancelled() {
    std::vector<Entry> cut;
    for (const RequestId id : cancelling_) {
      auto sequence = drop(waiting_, id);
      if (!sequence) sequence = drop(running_, id);
      if (!sequence) continue;
      ++cancelled_;
      cut.emplace_back(id, std::move(sequence));
    }
    cancelling_.clear();
    return cut;
  }

  std::vector<Entry> take_unserved() {
    const auto now = std::chrono::steady_clock::now();
    std::vector<Entry> late;
    for (const Entry& entry : waiting_) {
      const Sequence& sequence = *entry.second;
      if (sequence.queue_timeout && now - sequence.submitted > *sequence.queue_timeout) late.push_back(entry);
    }
    for (const Entry& entry : late) drop(waiting_, entry.first);
    return late;
  }

  std::vector<Entry> take_step() {
    while (!waiting_.empty() && static_cast<int>(running_.size()) < options_.running) {
      waiting_.front().second->completion.queue_seconds = 0.001;
      if (waiting_.front().second->begun) *waiting_.front().second->begun = true;
      running_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    ++stats_.steps;
    stats_.step_decode_tokens = static_cast<int>(running_.size());
    stats_.generated_tokens += stats_.step_decode_tokens;
    return {running_.begin(), running_.end()};
  }

  void end(Sequence& sequence, FinishReason reason) {
    Update update;
    update.delta.finished = true;
    update.delta.finish = reason;
    sequence.completion.choices.resize(1);
    sequence.completion.choices[0].finish = reason;
    update.done = &sequence.completion;
    sequence.on_update(update);
  }

  void fail(Sequence& sequence, const std::pair<std::string, std::string>& failure) {
    for (Choice& choice : sequence.completion.choices) {
      choice.finish = FinishReason::error;
      choice.error = failure.first;
      choice.error_code = failure.second;
    }
    Update update;
    update.delta.finished = true;
    update.delta.finish = FinishReason::error;
    update.done = &sequence.completion;
    sequence.on_update(update);
  }

  // One word of each choice. True when the request is done.
  bool advance(Sequence& sequence, const std::string& script) {
    if (prefill_held_) return false;
    const SamplingParams& params = sequence.prepared->request.sampling;
    Completion& completion = sequence.completion;
    completion.prompt_tokens = sequence.prepared->tokens;
    if (sequence.prepared->request.embedding) {
      completion.embedding = {0.5f, -0.25f, static_cast<float>(completion.prompt_tokens)};
      end(sequence, FinishReason::stop);
      return true;
    }
    completion.choices.resize(static_cast<size_t>(params.n));
    const std::vector<std::string> said = words(script);
    const int most = params.max_tokens > 0 ? params.max_tokens : script.empty() ? 20 : 1 << 30;
    const bool late =
        sequence.deadline && std::chrono::steady_clock::now() - sequence.submitted > *sequence.deadline;
    const bool scripted = !script.empty();
    const int at = sequence.at++;
    const bool stops = scripted && at + 1 >= static_cast<int>(said.size());
    const bool last = stops || late || at + 1 >= most;
    for (int k = 0; k < params.n; ++k) {
      Update update;
      update.delta.choice = k;
      update.delta.text = scripted ? said[static_cast<size_t>(at)] : word(at, k);
      update.tokens = {at % 1000};
      if (params.logprobs >= 0) {
        TokenInfo info{{at % 1000, update.delta.text, -0.5f}, {}};
        for (int i = 0; i < params.logprobs; ++i)
          info.top.push_back({i, cat("t", i), -0.5f - static_cast<float>(i)});
        update.delta.logprobs = {info};
      }
      update.delta.finished = last;
      update.delta.finish = stops ? FinishReason::stop : late ? FinishReason::deadline : FinishReason::length;
      Choice& choice = completion.choices[static_cast<size_t>(k)];
      choice.text += update.delta.text;
      choice.tokens.push_back(at % 1000);
      choice.finish = update.delta.finish;
      choice.logprobs.insert(choice.logprobs.end(), update.delta.logprobs.begin(),
                             update.delta.logprobs.end());
      ++completion.completion_tokens;
      if (last && k + 1 == params.n) update.done = &completion;
      sequence.on_update(update);
    }
    return last;
  }

  const Options options_;
  ModelInfo info_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool paused_, stopping_ = false, draining_ = false, losing_ = false;
  std::string script_, salt_;
  std::pair<std::string, std::string> failure_;
  bool tokenize_held_ = false;
  mutable std::condition_variable tokenized_;
  bool prepare_held_ = false, pictures_held_ = false;
  mutable std::condition_variable prepare_let_go_;
  std::atomic<bool> prefill_held_ = false;
  int priority_ = 0;
  mutable Request last_;
  std::function<void(EngineStats&)> change_;
  std::deque<Entry> waiting_, running_;
  std::vector<RequestId> cancelling_;
  RequestId last_id_ = 0;
  EngineStats stats_;
  std::chrono::steady_clock::time_point progress_ = std::chrono::steady_clock::now();
  std::atomic<int> cancelled_{0};
  mutable std::atomic<int> prepared_{0};
  std::thread thread_;
};

}  // namespace llamita::test
