// Generation: one request to a model, from its body to the last byte of its reply. It lives on three threads:
// a worker parses and prepares it (with images, another prepares it), the engine's step thread reports its
// tokens, the I/O thread writes them. The step thread only appends to a bounded queue and never waits; a
// client that leaves cancels the request in whatever phase it is.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "llamita/async_engine.h"
#include "llamita/request_error.h"
#include "server/api/api_error.h"
#include "server/api/generation_request.h"
#include "server/api/reply_format.h"
#include "server/http/http_server.h"
#include "server/metrics.h"

namespace llamita::server {

// What generations need of the server around them.
struct GenerationHost {
  std::shared_ptr<AsyncEngine> engine;
  std::function<void(std::function<void()>)> post;  // to the I/O thread, from any thread
  // On a thread for what has images; false when too many wait. From any thread.
  std::function<bool(std::function<void()>)> run_with_images;
  std::function<void(const std::optional<std::string>& model)> check_model;  // throws ApiError; any thread
  Metrics* metrics = nullptr;                                                // of the I/O thread
  ParseContext parse;
  std::chrono::milliseconds image_timeout{20'000};  // for all that a request has fetched
  size_t update_queue = 4096;
  std::chrono::milliseconds timeout{600'000}, queue_timeout{60'000};  // since the request came
  std::string model, fingerprint;
  std::function<bool()> draining;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  using Clock = std::chrono::steady_clock;
  // Takes the request's body. `headers` are added to the reply's. `done` is called once on the I/O thread,
  // when nothing more will be written.
  Generation(std::shared_ptr<const GenerationHost> host, Endpoint endpoint, HttpRequest& request,
             std::string salt, Headers headers, std::shared_ptr<HttpReply> reply,
             std::function<void(int status)> done);

  // On a worker.
  void prepare_and_submit();
  // On the I/O thread: the client is gone, or (with a message) the server must end.
  void abandon(const std::string& message = {});
  // On the I/O thread, now and then: a stream that is computed and of which nothing was written since
  // `silent_since` gets an SSE comment, so that proxies do not take it for dead. While it waits for its turn
  // its status is open, and it gets none.
  void ping(Clock::time_point silent_since);
  // On the I/O thread, now and then: ends a request that waits to be prepared, or is, for longer than the
  // queue's timeout. The engine ends those that it has.
  void end_unserved();

 private:
  struct Step {  // what is needed of one Update, copied
    size_t prompt;
    Delta delta;
    int64_t tokens;
    Clock::time_point at;
    std::optional<Completion> done;
  };

  template <class Work>
  void reporting_failures(const Work& work);
  void parse_and_go_on();
  void go_on_with_images();
  void fetch_images();
  void submit_all();
  ApiError api_error(const RequestError& error) const;  // names the field of this endpoint
  ApiError picture_error(const std::string& what, size_t picture) const;
  void require_room() const;  // throws ApiError
  ApiError no_room() const;
  bool abandoned();
  void on_update(size_t prompt, const Update& update);  // step thread
  void opened();                                        // I/O thread from here on
  template <class Task>
  void guarded(const Task& task);
  void take_steps();
  void take_step(Step& step, std::string& out);
  void begin_head();
  void begin_stream(std::string& out);
  void record(const Step& step);
  void write(const std::string& out);
  ApiError ended_error(const std::string& message) const;
  void fail(const ApiError& error);
  void finish();
  void finish_with_error(const ApiError& error);
  void cancel_all();
  void close(int status);

  const std::shared_ptr<const GenerationHost> host_;
  const Endpoint endpoint_;
  const Clock::time_point arrived_ = Clock::now();
  std::string body_;
  std::shared_ptr<const void> body_share_;  // goes with it and with the images that came inside it
  const std::string salt_;

  // Of the worker until opened(), then of the I/O thread.
  GenerationRequest request_;
  std::vector<std::string> echoes_;
  const std::shared_ptr<std::atomic<bool>> begun_computing_ = std::make_shared<std::atomic<bool>>(false);

  std::mutex mutex_;  // guards the next four
  std::vector<RequestId> ids_;
  std::vector<Step> steps_;
  bool told_ = false;  // take_steps() is on its way to the I/O thread
  bool abandoned_ = false;

  // Of the I/O thread.
  Headers headers_;
  std::shared_ptr<HttpReply> reply_;
  std::function<void(int)> done_;
  std::unique_ptr<ReplyFormat> format_;
  std::vector<Completion> completions_;
  size_t left_ = 0;  // prompts that are not done
  std::optional<ApiError> error_;
  bool open_ = false;
  bool begun_ = false;    // the head of a stream is sent, …
  bool greeted_ = false;  // … and what its format begins with
  Clock::time_point last_written_ = arrived_;
  std::vector<std::optional<Clock::time_point>> last_token_;  // of each choice of each prompt
};

}  // namespace llamita::server
