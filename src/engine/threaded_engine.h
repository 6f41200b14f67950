// ThreadedEngine: the AsyncEngine over a loaded model. One thread steps; others leave what they want in an
// inbox that it empties between two steps, so no lock is held while a step computes or on_update runs.
//
// When a step throws, the requests it had part of end with FinishReason::error and the engine goes on with
// the others and stays usable; after a DeviceLostError nothing more is stepped.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/served_model.h"
#include "llamita/async_engine.h"

namespace llamita {

class ThreadedEngine : public AsyncEngine {
 public:
  // Throws Error when config.queue_requests is not positive or config.queue_tokens is negative.
  ThreadedEngine(std::unique_ptr<ServedModel> served, const EngineConfig& config);
  ~ThreadedEngine() override;

  std::shared_ptr<const PreparedRequest> prepare(const Request& request) const override;
  std::optional<std::vector<RequestId>> submit_all(
      std::vector<std::shared_ptr<const PreparedRequest>> requests, const SubmitOptions& options,
      OnGroupUpdate on_update) override;
  bool has_room() const override;
  void cancel(RequestId id) override;
  void drain() override;
  EngineStats stats() const override;
  const ModelInfo& info() const override { return served_->info; }
  std::vector<int32_t> tokenize(std::string_view text, bool add_special) const override;
  std::string detokenize(const std::vector<int32_t>& tokens) const override;

 private:
  struct Submission {
    RequestId id;
    std::shared_ptr<const TokenRequest> request;
    Engine::StartOptions options;
    OnUpdate on_update;
  };
  // What others want, and what the step thread takes at once.
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<RequestId> cancels;
    bool stop = false;
    bool empty() const { return submissions.empty() && cancels.empty() && !stop; }
  };

  bool room_for(int requests, int64_t tokens) const;  // with the lock
  void run();
  Inbox wait_for_work();
  void take_in(Inbox& inbox);
  void step();
  void lose_device(const std::string& why);
  void report(bool stepped);

  std::unique_ptr<ServedModel> served_;
  int queue_requests_;
  int64_t queue_tokens_;

  mutable std::mutex mutex_;  // guards all that follow
  std::condition_variable wake_;
  Inbox inbox_;
  EngineStats stats_;
  int queued_choices_ = 0;     // in the inbox
  int queued_requests_ = 0;    // in the inbox, or taken from it and not started yet
  int64_t queued_tokens_ = 0;  // of their prompts
  bool draining_ = false;
  std::optional<std::string> lost_;  // why the device computes nothing more, once it does not
  RequestId next_id_ = 1;

  std::thread thread_;  // last: it uses the rest
};

}  // namespace llamita
