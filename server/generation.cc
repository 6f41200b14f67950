#include "server/generation.h"

#include <chrono>
#include <utility>

#include "base/cat.h"
#include "base/log.h"

namespace llamita::server {

namespace {

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

GenerationRequest parse(Endpoint endpoint, const std::string& body, const ParseContext& context) {
  switch (endpoint) {
    case Endpoint::chat: return parse_chat(body, context);
    case Endpoint::completions: return parse_completion(body, context);
    case Endpoint::embeddings: break;
  }
  return parse_embedding(body, context);
}

// Their files are prepared and wanted no more.
void release_pictures(Request& request) {
  auto* conversation = std::get_if<Conversation>(&request.prompt);
  if (conversation == nullptr) return;
  for (Message& message : *conversation) message.pictures.clear();
}

Completion without_texts(const Completion& done) {
  Completion out;
  for (const Choice& choice : done.choices) {
    out.choices.emplace_back();
    out.choices.back().finish = choice.finish;
    out.choices.back().error = choice.error;
    out.choices.back().error_code = choice.error_code;
  }
  out.prompt_tokens = done.prompt_tokens;
  out.completion_tokens = done.completion_tokens;
  out.cached_tokens = done.cached_tokens;
  out.seed = done.seed;
  out.queue_seconds = done.queue_seconds;
  out.prefill_seconds = done.prefill_seconds;
  out.decode_seconds = done.decode_seconds;
  return out;
}

ApiError unserved_error() {
  return {503, "the request waited too long for its turn; try again later", {}, "queue_timeout"};
}

constexpr const char* kLagsBehind = "the reply could not be written in time";

const char* id_prefix(Endpoint endpoint) {
  return endpoint == Endpoint::chat ? "chatcmpl-" : endpoint == Endpoint::completions ? "cmpl-" : "embd-";
}

}  // namespace

Generation::Generation(std::shared_ptr<const GenerationHost> host, Endpoint endpoint, HttpRequest& request,
                       std::string salt, Headers headers, std::shared_ptr<HttpReply> reply,
                       std::function<void(int)> done)
    : host_(std::move(host)),
      endpoint_(endpoint),
      body_(std::move(request.body)),
      body_share_(std::move(request.body_share)),
      salt_(std::move(salt)),
      headers_(std::move(headers)),
      reply_(std::move(reply)),
      done_(std::move(done)) {}

void Generation::prepare_and_submit() {
  reporting_failures([this] { parse_and_go_on(); });
}

template <class Work>
void Generation::reporting_failures(const Work& work) {
  const auto post_failure = [this](const ApiError& error) {
    cancel_all();
    host_->post([self = shared_from_this(), error] { self->guarded([&] { self->fail(error); }); });
  };
  try {
    work();
  } catch (const ApiError& error) {
    post_failure(error);
  } catch (const GrammarTooCostly& error) {
    post_failure(ApiError(400, error.what(), {}, kGrammarTooCostly));
  } catch (const RequestError& error) {  // a prompt that is too long, a schema that cannot be taken, …
    post_failure(api_error(error));
  } catch (const Error& error) {
    post_failure(ApiError(400, error.what()));
  } catch (const std::exception& error) {
    log_warning("a request failed: ", error.what());
    post_failure(ApiError(500, "the server failed to prepare this request"));
  }
}

ApiError Generation::api_error(const RequestError& error) const {
  using Fault = RequestError::Fault;
  const char* prompt = endpoint_ == Endpoint::chat          ? "messages"
                       : endpoint_ == Endpoint::completions ? "prompt"
                                                            : "input";
  switch (error.fault()) {
    case Fault::prompt: return {400, error.what(), prompt};
    case Fault::prompt_size: return {400, error.what(), prompt, kContextLengthExceeded};
    case Fault::messages: return {400, error.what(), prompt, "unsupported_parameter"};
    case Fault::tools: return {400, error.what(), "tools", "unsupported_parameter"};
    case Fault::picture:
      return picture_error(error.what(), dynamic_cast<const PictureError&>(error).picture());
    case Fault::form: break;
  }
  const bool grammar = request_.requests[0].sampling.constraint.kind == Constraint::Kind::gbnf;
  return {400, error.what(), request_.tools.forced ? "tools" : grammar ? "grammar" : "response_format"};
}

// Names the field that the picture came in, as the parser does.
ApiError Generation::picture_error(const std::string& what, size_t picture) const {
  const auto& messages = std::get<Conversation>(request_.requests[0].prompt);
  size_t message = 0;
  for (; picture >= messages[message].pictures.size(); ++message)
    picture -= messages[message].pictures.size();
  return {400, what, cat("messages[", message, "].content.image_url.url"), "invalid_image"};
}

// Nothing leaves the I/O thread but to its reply: the server goes on.
template <class Task>
void Generation::guarded(const Task& task) {
  try {
    return task();
  } catch (const std::exception& error) {
    log_warning("a reply failed: ", error.what());
  }
  try {
    cancel_all();
    if (reply_) finish_with_error(ApiError(500, "the server failed on this request"));
  } catch (const std::exception& error) {
    log_warning("a reply failed again: ", error.what());
    close(500);
  }
}

void Generation::require_room() const {
  if (host_->draining()) throw ended_error("the server is shutting down");
  if (!host_->engine->has_room()) throw no_room();
}

ApiError Generation::no_room() const {
  if (host_->draining()) return ended_error("the server is shutting down");
  if (host_->engine->stats().device_lost) return device_lost_error();
  return {429, "the queue is full; try again soon", {}, "queue_full"};
}

bool Generation::abandoned() {
  const std::lock_guard lock(mutex_);
  return abandoned_;
}

void Generation::parse_and_go_on() {
  // Before any work is done that would be for nothing.
  if (abandoned()) return;
  require_room();
  request_ = parse(endpoint_, std::exchange(body_, {}), host_->parse);
  host_->check_model(request_.model);
  for (const std::string& warning : request_.warnings) log_warning(warning);
  if (!has_pictures(request_)) return submit_all();
  // Images take long to fetch and to decode: who sends none does not wait for them.
  const bool queued = host_->run_with_images(
      [self = shared_from_this()] { self->reporting_failures([&] { self->go_on_with_images(); }); });
  if (!queued) throw no_room();
}

void Generation::go_on_with_images() {
  if (abandoned()) return;
  require_room();  // time has passed
  fetch_images();
  submit_all();
}

void Generation::fetch_images() {
  const auto end = Clock::now() + host_->image_timeout;
  for (const RemoteImage& image : request_.remote) {
    if (abandoned()) return;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    auto& messages = std::get<Conversation>(request_.requests[0].prompt);
    messages[image.message].pictures[image.picture].file =
        fetch_image(image.source, host_->parse.fetch_image,
                    {host_->parse.limits.images.bytes, left, [this] { return abandoned(); }});
  }
}

void Generation::submit_all() {
  std::vector<std::shared_ptr<const PreparedRequest>> prepared;
  for (const Request& request : request_.requests) {
    if (abandoned()) return;
    prepared.push_back(host_->engine->prepare(request));
    if (!request_.echo) continue;
    const auto* tokens = std::get_if<std::vector<int32_t>>(&request.prompt);
    echoes_.push_back(tokens != nullptr ? host_->engine->detokenize(*tokens)
                                        : std::get<std::string>(request.prompt));
  }
  for (Request& request : request_.requests) release_pictures(request);
  body_share_.reset();
  SubmitOptions options;
  options.priority = request_.priority;
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - arrived_);
  options.deadline = host_->timeout - waited;
  options.queue_timeout = host_->queue_timeout - waited;
  options.cache_salt = salt_;
  options.begun = begun_computing_;
  auto ids = host_->engine->submit_all(
      std::move(prepared), options,
      [self = shared_from_this()](size_t i, const Update& update) { self->on_update(i, update); });
  if (!ids) throw no_room();
  {
    const std::lock_guard lock(mutex_);
    ids_ = *std::move(ids);
    if (abandoned_)
      for (const RequestId id : ids_) host_->engine->cancel(id);
  }
  host_->post([self = shared_from_this()] { self->guarded([&] { self->opened(); }); });
}

// A stream is made of its deltas and a whole reply of its completion: the other one's texts are not copied.
void Generation::on_update(size_t prompt, const Update& update) {
  Step step{prompt, {}, static_cast<int64_t>(update.tokens.size()), Clock::now(), std::nullopt};
  if (request_.stream) {
    step.delta = update.delta;
  } else {
    step.delta.choice = update.delta.choice;
    step.delta.finished = update.delta.finished;
    step.delta.finish = update.delta.finish;
  }
  if (update.done != nullptr) step.done = request_.stream ? without_texts(*update.done) : *update.done;
  const std::lock_guard lock(mutex_);
  if (abandoned_) return;
  steps_.push_back(std::move(step));
  if (steps_.size() > host_->update_queue) {
    abandoned_ = true;
    steps_.clear();
    host_->post([self = shared_from_this()] { self->abandon(kLagsBehind); });
  } else if (!std::exchange(told_, true)) {
    host_->post([self = shared_from_this()] { self->guarded([&] { self->take_steps(); }); });
  }
}

void Generation::opened() {
  if (!reply_) return;
  const size_t prompts = request_.requests.size();
  left_ = prompts;
  completions_.resize(prompts);
  last_token_.resize(prompts * static_cast<size_t>(request_.n));
  format_ =
      make_format(request_, {random_id(id_prefix(endpoint_)), host_->model, unix_time(), host_->fingerprint},
                  std::move(echoes_));
  open_ = true;
  take_steps();
}

// With the first news, or the first ping, and not before: a stream that never gets its turn is refused with a
// status.
void Generation::begin_head() {
  if (begun_) return;
  Headers headers = headers_;  // these stay as they are for a reply that fails before it begins
  headers.emplace_back("Content-Type", "text/event-stream; charset=utf-8");
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");
  reply_->begin({200, std::move(headers), {}});
  begun_ = true;
}

void Generation::begin_stream(std::string& out) {
  begin_head();
  if (!std::exchange(greeted_, true)) out += format_->begin();
}

void Generation::ping(Clock::time_point silent_since) {
  if (!open_ || !reply_ || !request_.stream || !*begun_computing_ || last_written_ > silent_since) return;
  guarded([this] {
    begin_head();
    write(": ping\n\n");
  });
}

void Generation::end_unserved() {
  if (open_ || !reply_ || *begun_computing_ || Clock::now() - arrived_ < host_->queue_timeout) return;
  cancel_all();
  host_->metrics->unserved();
  guarded([this] { fail(unserved_error()); });
}

void Generation::take_steps() {
  std::vector<Step> steps;
  {
    const std::lock_guard lock(mutex_);
    told_ = false;
    if (!open_) return;  // opened() takes them
    steps.swap(steps_);
  }
  if (!reply_) return;
  std::string out;
  for (size_t i = 0; i < steps.size() && left_ > 0; ++i) take_step(steps[i], out);
  write(out);
  if (left_ == 0 && reply_) finish();
}

void Generation::take_step(Step& step, std::string& out) {
  record(step);
  const bool failed = step.delta.finished && (step.delta.finish == FinishReason::error ||
                                              step.delta.finish == FinishReason::cancelled);
  const bool unserved = step.done && never_begun(*step.done);
  if (failed && !error_) error_ = ended_error("the server is shutting down");
  if (unserved) {
    error_ = unserved_error();
  }
  if (request_.stream && !failed && !unserved) {
    begin_stream(out);
    out += format_->update(step.prompt, step.delta);
  }
  if (!step.done) return;
  for (const Choice& choice : step.done->choices) {
    if (choice.finish != FinishReason::error) continue;
    const int status = choice.error_code == kGrammarTooCostly ? 400 : 500;
    error_ =
        ApiError(status, choice.error.empty() ? "the request failed" : choice.error, {}, choice.error_code);
  }
  completions_[step.prompt] = *std::move(step.done);
  left_ = error_ ? 0 : left_ - 1;  // one prompt's failure is the whole reply's
}

void Generation::record(const Step& step) {
  if (step.tokens > 0 && request_.n > step.delta.choice) {
    auto& last =
        last_token_[step.prompt * static_cast<size_t>(request_.n) + static_cast<size_t>(step.delta.choice)];
    if (last) {
      host_->metrics->next_tokens(seconds(step.at - *last), step.tokens);
    } else {
      host_->metrics->first_token(seconds(step.at - arrived_));
    }
    last = step.at;
  }
  if (step.done) {
    host_->metrics->finished(*step.done, seconds(step.at - arrived_),
                             request_.requests[step.prompt].sampling.max_tokens);
  }
}

// Of a reply that the server ends.
ApiError Generation::ended_error(const std::string& message) const {
  return host_->draining() ? ApiError(503, message, {}, "draining") : ApiError(500, message);
}

// Writing may drop a slow reader, and with it this request's reply.
void Generation::write(const std::string& out) {
  if (out.empty() || !reply_) return;
  last_written_ = Clock::now();
  const auto reply = reply_;
  reply->write(out);
}

void Generation::fail(const ApiError& error) {
  if (!reply_) return;
  HttpResponse response = error_response(error);
  response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
  reply_->send(std::move(response));
  close(error.status);
}

void Generation::finish() {
  if (error_) {
    cancel_all();  // the other prompts
    return finish_with_error(*error_);
  }
  if (request_.stream) {
    std::string out;
    begin_stream(out);
    write(out + format_->end(completions_));
    if (reply_) reply_->end();
  } else {
    HttpResponse response = json_response(200, format_->whole(completions_));
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    reply_->send(std::move(response));
  }
  close(200);
}

void Generation::finish_with_error(const ApiError& error) {
  if (!begun_) return fail(error);
  write(cat(event(error_body(error)), "data: [DONE]\n\n"));
  if (reply_) reply_->end();
  close(200);
}

void Generation::abandon(const std::string& message) {
  cancel_all();
  if (!reply_) return;
  host_->metrics->abandoned();
  guarded([&] {
    if (!message.empty()) return finish_with_error(ended_error(message));
    close(0);
  });
}

void Generation::cancel_all() {
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    ids.swap(ids_);
    steps_.clear();
  }
  for (const RequestId id : ids) host_->engine->cancel(id);
}

void Generation::close(int status) {
  reply_.reset();
  if (const auto done = std::exchange(done_, nullptr)) done(status);
}

}  // namespace llamita::server
