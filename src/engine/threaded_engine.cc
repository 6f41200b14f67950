#include "engine/threaded_engine.h"

#include <utility>

#include "base/cat.h"
#include "base/log.h"
#include "llamita/error.h"

namespace llamita {

namespace {

class Prepared : public PreparedRequest {
 public:
  explicit Prepared(TokenRequest request) : request_(std::move(request)) {}
  int prompt_tokens() const override { return static_cast<int>(request_.prompt.size()); }
  const TokenRequest& request() const { return request_; }

 private:
  TokenRequest request_;
};

constexpr int64_t kQueueFactor = 4;  // prompts that wait, over what the KV cache holds

int choices_of(const TokenRequest& request) { return request.embedding ? 1 : request.sampling.n; }

AsyncEngine::OnUpdate of_one(const AsyncEngine::OnGroupUpdate& on_update, size_t which) {
  if (!on_update) return {};
  return [on_update, which](const Update& update) { on_update(which, update); };
}

// A listener that throws, although it must not, is not listened to again.
Engine::OnUpdate guarded(AsyncEngine::OnUpdate on_update, RequestId id) {
  return [on_update = std::move(on_update), id](const Update& update) mutable {
    if (!on_update) return;
    try {
      on_update(update);
    } catch (const std::exception& error) {
      log_warning("the listener of request ", id, " threw and hears no more: ", error.what());
      on_update = nullptr;
    } catch (...) {
      log_warning("the listener of request ", id, " threw and hears no more");
      on_update = nullptr;
    }
  };
}

}  // namespace

std::unique_ptr<AsyncEngine> AsyncEngine::load(const std::string& path, const EngineConfig& config,
                                               const LLM::Progress& progress) {
  return std::make_unique<ThreadedEngine>(ServedModel::load(path, config, progress), config);
}

ThreadedEngine::ThreadedEngine(std::unique_ptr<ServedModel> served, const EngineConfig& config)
    : served_(std::move(served)), queue_requests_(config.queue_requests), queue_tokens_(config.queue_tokens) {
  if (queue_requests_ < 1) throw Error(cat("queue_requests must be at least 1, not ", queue_requests_));
  if (queue_tokens_ < 0) throw Error(cat("queue_tokens must be 0 or more, not ", queue_tokens_));
  if (queue_tokens_ == 0) {
    queue_tokens_ = kQueueFactor * served_->engine.memory_plan().shape.kv_pages * kPageTokens;
  }
  stats_ = served_->engine.stats();
  stats_.progress_at = Engine::Clock::now();
  thread_ = std::thread([this] { run(); });
}

ThreadedEngine::~ThreadedEngine() {
  {
    const std::lock_guard lock(mutex_);
    inbox_.stop = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::shared_ptr<const PreparedRequest> ThreadedEngine::prepare(const Request& request) const {
  return std::make_shared<Prepared>(served_->preparer.prepare(request));
}

// An empty queue takes any prompts: each fits the context, and whatever else the limits say they can be
// served.
bool ThreadedEngine::room_for(int requests, int64_t tokens) const {
  if (draining_ || inbox_.stop || lost_) return false;
  const int waiting = queued_requests_ + served_->engine.unstarted();
  if (waiting == 0) return true;
  const int64_t waiting_tokens = queued_tokens_ + served_->engine.unstarted_tokens();
  return waiting + requests <= queue_requests_ && waiting_tokens + tokens <= queue_tokens_;
}

bool ThreadedEngine::has_room() const {
  const std::lock_guard lock(mutex_);
  return room_for(1, 1);
}

std::optional<std::vector<RequestId>> ThreadedEngine::submit_all(
    std::vector<std::shared_ptr<const PreparedRequest>> requests, const SubmitOptions& options,
    OnGroupUpdate on_update) {
  std::vector<std::shared_ptr<const TokenRequest>> group;
  int64_t tokens = 0;
  for (std::shared_ptr<const PreparedRequest>& request : requests) {
    const auto prepared = std::dynamic_pointer_cast<const Prepared>(std::move(request));
    if (prepared == nullptr) throw Error("submit() takes what this engine's prepare() made");
    // The prepared request lives as long as its tokens are looked at.
    group.emplace_back(prepared, &prepared->request());
    tokens += prepared->prompt_tokens();
  }
  Engine::StartOptions start;
  start.priority = options.priority;
  start.cache_salt = options.cache_salt;
  if (options.deadline) start.deadline = start.submitted + *options.deadline;
  if (options.queue_timeout) start.begin_by = start.submitted + *options.queue_timeout;
  start.group_begun = options.begun ? options.begun : std::make_shared<std::atomic<bool>>(false);
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    if (!room_for(static_cast<int>(group.size()), tokens)) return std::nullopt;
    queued_requests_ += static_cast<int>(group.size());
    queued_tokens_ += tokens;
    if (!stats_.busy) stats_.progress_at = start.submitted;
    stats_.busy = true;
    for (size_t i = 0; i < group.size(); ++i) {
      ids.push_back(next_id_++);
      queued_choices_ += choices_of(*group[i]);
      inbox_.submissions.push_back(
          {ids.back(), std::move(group[i]), start, guarded(of_one(on_update, i), ids.back())});
    }
  }
  wake_.notify_one();
  return ids;
}

void ThreadedEngine::cancel(RequestId id) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.cancels.push_back(id);
  }
  wake_.notify_one();
}

void ThreadedEngine::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

EngineStats ThreadedEngine::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.waiting += queued_choices_;
  return stats;
}

std::vector<int32_t> ThreadedEngine::tokenize(std::string_view text, bool add_special) const {
  return served_->tokenizer->encode(text, add_special, false);
}

std::string ThreadedEngine::detokenize(const std::vector<int32_t>& tokens) const {
  return served_->tokenizer->decode(tokens, false);
}

void ThreadedEngine::run() {
  for (;;) {
    Inbox inbox = wait_for_work();
    take_in(inbox);
    if (inbox.stop) return served_->engine.end_all(FinishReason::cancelled);
    const bool stepped = !served_->engine.idle();
    if (stepped) step();
    report(stepped);
  }
}

ThreadedEngine::Inbox ThreadedEngine::wait_for_work() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return !inbox_.empty() || !served_->engine.idle(); });
  stats_.waiting += std::exchange(queued_choices_, 0);
  return std::exchange(inbox_, {});
}

void ThreadedEngine::take_in(Inbox& inbox) {
  int64_t tokens = 0;
  for (Submission& submission : inbox.submissions) {
    tokens += static_cast<int64_t>(submission.request->prompt.size());
    served_->engine.start(submission.id, std::move(submission.request), submission.options,
                          std::move(submission.on_update));
  }
  {
    // From here on the engine counts them, if they wait.
    const std::lock_guard lock(mutex_);
    queued_requests_ -= static_cast<int>(inbox.submissions.size());
    queued_tokens_ -= tokens;
  }
  for (const RequestId id : inbox.cancels) served_->engine.end(id, FinishReason::cancelled);
}

// lost_ is written by this thread alone, so it reads it without the lock.
void ThreadedEngine::step() {
  if (lost_) return served_->engine.fail_all(*lost_);  // what was on its way here
  try {
    served_->engine.step();
  } catch (const DeviceLostError& error) {
    lose_device(error.what());
  } catch (const std::exception& error) {
    log_warning("a step failed: ", error.what());
    served_->engine.fail_step(error.what());
  }
}

void ThreadedEngine::lose_device(const std::string& why) {
  log_line(LogLevel::error, cat("the device is lost, all requests fail: ", why));
  {
    // Before any request hears of it, so that nobody who does is let in again.
    const std::lock_guard lock(mutex_);
    lost_ = why;
    stats_.device_lost = true;
  }
  served_->engine.fail_all(why);
}

void ThreadedEngine::report(bool stepped) {
  EngineStats now = served_->engine.stats();
  const std::lock_guard lock(mutex_);
  now.progress_at = stepped ? Engine::Clock::now() : stats_.progress_at;
  now.device_lost = lost_.has_value();
  stats_ = now;
  stats_.busy = !served_->engine.idle() || !inbox_.submissions.empty();
}

}  // namespace llamita
