#include "server/api_server.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "base/cat.h"
#include "base/log.h"
#include "formats/printable.h"
#include "server/api/api_error.h"
#include "server/api/openapi.h"
#include "server/api/token_request.h"
#include "server/web_files.h"

namespace llamita::server {

namespace {

constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
constexpr std::string_view kModelPath = "/v1/models/";

// HTTP/1.0 need not name the host; from 1.1 on a request without one was not written for a server.
void check_host(const HttpRequest& request) {
  if (request.http_1_1 && !request.has_header("host")) {
    throw ApiError(400, "the request has no Host header, which HTTP/1.1 asks for");
  }
}

Json text(std::string_view value) { return Json(std::string(value)); }
Json integer(int64_t value) { return Json(value); }

// "org%2Fname" -> "org/name", as clients write a name into a path.
std::string unescaped(std::string_view path) {
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    uint8_t byte = 0;
    const char* digits = path.data() + i + 1;
    const bool escape = path[i] == '%' && i + 2 < path.size() &&
                        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2;
    out.push_back(escape ? static_cast<char>(byte) : path[i]);
    i += escape ? 2 : 0;
  }
  return out;
}

// Counted in slices, so that no more is made than may be said.
void require_short(const AsyncEngine& engine, const std::vector<int32_t>& tokens, size_t most) {
  constexpr size_t kSlice = 1024;
  size_t bytes = 0;
  for (size_t at = 0; at < tokens.size(); at += kSlice) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    const auto count = static_cast<std::ptrdiff_t>(std::min(kSlice, tokens.size() - at));
    bytes += engine.detokenize({first, first + count}).size();
    if (bytes <= most) continue;
    throw ApiError(400,
                   cat("the tokens' text has more than ", most, " bytes; ask for it in several requests"),
                   "tokens");
  }
}

}  // namespace

ApiServer::ApiServer(const ServerConfig& config, Post post)
    : config_(config),
      post_(std::move(post)),
      access_(config),
      metrics_(config.metrics_prefix, config.model_names.empty() ? "" : config.model_names[0]),
      worker_(std::make_unique<Worker>(config.prepare_threads, config.prepare_queue)),
      image_worker_(std::make_unique<Worker>(config.image_threads, config.prepare_queue)),
      token_worker_(std::make_unique<Worker>(1, config.prepare_queue)) {}

ApiServer::~ApiServer() {
  worker_.reset();  // it gives work to the image worker
  image_worker_.reset();
  token_worker_.reset();
  // Generations hold the engine through their host; without replies they write nothing more.
  for (const auto& [key, generation] : std::exchange(generations_, {})) generation->abandon();
  if (host_) host_->engine.reset();
  engine_.reset();
}

void ApiServer::attach(std::shared_ptr<AsyncEngine> engine) {
  engine_ = std::move(engine);
  created_ =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  if (config_.model_names.empty()) config_.model_names = {engine_->info().name};
  metrics_.set_model(config_.model_names[0]);
  host_ = std::make_shared<GenerationHost>();
  host_->engine = engine_;
  host_->post = post_;
  host_->check_model = [this](const std::optional<std::string>& name) { check_model(name); };
  host_->metrics = &metrics_;
  host_->parse.limits = config_.api;
  host_->parse.lenient = config_.lenient;
  host_->parse.vocab_size = engine_->info().vocab_size;
  host_->parse.tool_format = config_.tool_format.value_or(tool_format_of_family(engine_->info().family));
  if (config_.api.reply_tokens > 0) host_->parse.unasked_reply_tokens = config_.api.reply_tokens;
  int& reply_tokens = host_->parse.limits.reply_tokens;
  if (reply_tokens == 0 || reply_tokens > engine_->info().context) reply_tokens = engine_->info().context;
  host_->parse.takes_images = engine_->info().image_tokens > 0 && config_.api.images.images > 0;
  host_->parse.fetch_image = config_.fetch_image;
  host_->run_with_images = [this](std::function<void()> task) { return image_worker_->run(std::move(task)); };
  host_->image_timeout = config_.image_timeout;
  host_->update_queue = config_.update_queue;
  host_->timeout = config_.request_timeout;
  host_->queue_timeout = config_.queue_timeout;
  host_->model = config_.model_names[0];
  host_->fingerprint = cat("llamita-", config_.version);
  host_->draining = [this] { return draining_.load(); };
  if (draining_) engine_->drain();
}

const std::vector<ApiServer::Route>& ApiServer::routes() {
  static const std::vector<Route> table = {
      {"GET", "/health", &ApiServer::health, true, false},
      {"GET", "/version", &ApiServer::version, false, false},
      {"GET", "/metrics", &ApiServer::metrics, false, false},
      {"GET", "/live", &ApiServer::live, false, true},
      {"GET", "/openapi.json", &ApiServer::openapi, false, false},
      {"GET", "/v1/models", &ApiServer::models, false, true},
      {"GET", "/v1/models/{model}", &ApiServer::models, false, true},
      {"POST", "/v1/chat/completions", &ApiServer::chat, false, true},
      {"POST", "/v1/completions", &ApiServer::completions, false, true},
      {"POST", "/v1/embeddings", &ApiServer::embeddings, false, true},
      {"POST", "/tokenize", &ApiServer::tokenize, false, true},
      {"POST", "/detokenize", &ApiServer::detokenize, false, true},
      {"GET", "/", &ApiServer::page, true, false},
  };
  return table;
}

const ApiServer::Route& ApiServer::find_route(const HttpRequest& request) const {
  std::string_view path = request.path();
  const auto find = [](std::string_view wanted) -> const Route* {
    for (const Route& route : routes()) {
      if (wanted == route.path) return &route;
    }
    return nullptr;
  };
  const Route* found = path.find('{') == std::string_view::npos ? find(path) : nullptr;
  if (found == nullptr && path.rfind(kModelPath, 0) == 0) found = find("/v1/models/{model}");
  if (found == nullptr && find_web_file(path) != nullptr) found = find("/");
  if (found == nullptr) throw ApiError(404, cat("there is nothing at ", printable(path)), {}, "unknown_url");
  const bool reading = request.method == "GET" || request.method == "HEAD";
  if (found->method == request.method || (reading && std::string_view(found->method) == "GET")) return *found;
  ApiError error(405, cat(found->path, " takes ", found->method, " only"), {}, "method_not_allowed");
  error.allow = std::string_view(found->method) == "GET" ? "GET, HEAD" : found->method;
  throw error;
}

const ApiServer::Route& ApiServer::admit(const HttpRequest& request) const {
  const Route* route = nullptr;
  try {
    route = &find_route(request);
  } catch (const ApiError&) {
    access_.check(request, false);  // strangers do not learn what there is
    throw;
  }
  access_.check(request, route->open);
  return *route;
}

std::optional<HttpResponse> ApiServer::screen(const HttpRequest& head) {
  if (head.method == "OPTIONS") return std::nullopt;
  try {
    admit(head);
  } catch (const ApiError& error) {
    if (error.status == 401 || error.status == 403) return counted(head, error_response(error));
  }
  return std::nullopt;  // other faults are told by handle(): the connection can go on after them
}

// Whatever happens to one request ends that request alone.
void ApiServer::handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  HttpResponse failure;
  try {
    return answer(request, reply);
  } catch (const ApiError& error) {
    failure = error_response(error);
  } catch (const std::exception& error) {
    log_warning("a request failed: ", error.what());
    failure = error_response(ApiError(500, "the server failed on this request"));
  }
  send(request, reply, std::move(failure));
}

void ApiServer::answer(HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  check_host(request);
  if (request.method == "OPTIONS") return send(request, reply, access_.preflight(request));
  const Route& route = admit(request);
  if (route.needs_engine && !engine_) throw ApiError(503, "the model is loading", {}, "loading");
  (this->*route.run)(request, reply);
}

HttpResponse ApiServer::refuse(int status, const std::string& message) {
  metrics_.replied("refused", status);
  return error_response(ApiError(status, message));
}

// With the headers that every reply has, and in the metrics.
HttpResponse ApiServer::counted(const HttpRequest& request, HttpResponse response) {
  const Headers cors = access_.cors_headers(request);
  if (request.method != "OPTIONS") response.headers.insert(response.headers.end(), cors.begin(), cors.end());
  const bool known = std::any_of(routes().begin(), routes().end(),
                                 [&](const Route& route) { return request.path() == route.path; });
  metrics_.replied(known ? request.path() : "other", response.status);
  return response;
}

void ApiServer::send(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply,
                     HttpResponse response) {
  reply->send(counted(request, std::move(response)));
}

void ApiServer::health(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  const char* status = !engine_        ? "loading"
                       : device_lost() ? "device_lost"
                       : draining_     ? "draining"
                       : stalled_      ? "stalled"
                                       : "ok";
  const bool good = std::string_view(status) == "ok";
  HttpResponse response = json_response(good ? 200 : 503, Json(Json::Object{{"status", text(status)}}));
  if (!good) response.headers.emplace_back("Retry-After", "1");
  send(request, reply, std::move(response));
}

void ApiServer::version(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  send(request, reply, json_response(200, Json(Json::Object{{"version", text(config_.version)}})));
}

void ApiServer::metrics(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  std::optional<EngineStats> stats;
  if (engine_) stats = engine_->stats();
  send(request, reply,
       {200,
        {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
        metrics_.render(stats ? &*stats : nullptr, http_)});
}

void ApiServer::openapi(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  OpenApiFacts facts{config_.version, config_.api, config_.model_names, 0, !config_.api_keys.empty()};
  if (engine_) {
    facts.limits = host_->parse.limits;
    facts.vocab_size = engine_->info().vocab_size;
  }
  send(request, reply, json_response(200, openapi_document(facts)));
}

// Counters and gauges for the page's panel, which turns counters into rates.
void ApiServer::live(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  const EngineStats stats = engine_->stats();
  send(request, reply,
       json_response(200, Json(Json::Object{{"running", integer(stats.running)},
                                            {"waiting", integer(stats.waiting)},
                                            {"blocks", integer(stats.blocks)},
                                            {"blocks_used", integer(stats.blocks_used)},
                                            {"blocks_shared", integer(stats.blocks_shared)},
                                            {"blocks_kept", integer(stats.blocks_kept)},
                                            {"step_prefill_tokens", integer(stats.step_prefill_tokens)},
                                            {"step_decode_tokens", integer(stats.step_decode_tokens)},
                                            {"step_seconds", Json(stats.step_seconds)},
                                            {"steps", integer(stats.steps)},
                                            {"prompt_tokens", integer(stats.prompt_tokens)},
                                            {"generated_tokens", integer(stats.generated_tokens)},
                                            {"prefix_hit_tokens", integer(stats.prefix_hit_tokens)},
                                            {"prefix_query_tokens", integer(stats.prefix_query_tokens)},
                                            {"preemptions", integer(stats.preemptions)},
                                            {"context", integer(engine_->info().context)},
                                            {"busy", Json(stats.busy)}})));
}

Json ApiServer::model_json(const std::string& name) const {
  const ImageLimits& images = config_.api.images;
  return Json(Json::Object{{"id", Json(name)},
                           {"object", text("model")},
                           {"created", integer(created_)},
                           {"owned_by", text("llamita")},
                           {"root", Json(engine_->info().name)},
                           {"max_model_len", integer(engine_->info().context)},
                           {"takes_tools", Json(engine_->info().takes_tools)},
                           {"takes_images", Json(host_->parse.takes_images)},
                           {"max_images", integer(host_->parse.takes_images ? images.images : 0)},
                           {"max_image_bytes", integer(static_cast<int64_t>(images.bytes))}});
}

void ApiServer::models(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  if (request.path().rfind(kModelPath, 0) == 0) {
    const std::string name = unescaped(request.path().substr(kModelPath.size()));
    check_model(name);
    return send(request, reply, json_response(200, model_json(name)));
  }
  Json::Array data;
  for (const std::string& name : config_.model_names) data.push_back(model_json(name));
  send(request, reply,
       json_response(200, Json(Json::Object{{"object", text("list")}, {"data", Json(std::move(data))}})));
}

// A request without a model means the one there is: OpenAI refuses it, but has more to choose from.
void ApiServer::check_model(const std::optional<std::string>& name) const {
  const auto& names = config_.model_names;
  if (!name || std::find(names.begin(), names.end(), *name) != names.end()) return;
  std::string list;
  for (const std::string& known : names) list += cat(list.empty() ? "" : ", ", known);
  throw ApiError(404, cat("there is no model ", printable(*name), " here; there is ", list), "model",
                 "model_not_found");
}

void ApiServer::chat(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  generate(Endpoint::chat, request, std::move(reply));
}
void ApiServer::completions(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  generate(Endpoint::completions, request, std::move(reply));
}
void ApiServer::embeddings(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  generate(Endpoint::embeddings, request, std::move(reply));
}

void ApiServer::generate(Endpoint endpoint, HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  if (draining_) throw ApiError(503, "the server is shutting down", {}, "draining");
  if (device_lost()) throw device_lost_error();
  // Before the body is parsed, let alone tokenised: a full queue says so at once.
  if (!engine_->has_room()) throw ApiError(429, "the queue is full; try again soon", {}, "queue_full");
  const uint64_t key = next_key_++;
  const std::string route(request.path());
  const auto done = [this, key, route](int status) {
    if (status != 0) metrics_.replied(route, status);
    generations_.erase(key);
  };
  auto generation = std::make_shared<Generation>(host_, endpoint, request, access_.salt(request),
                                                 access_.cors_headers(request), reply, done);
  // Weak, because the reply is the generation's and would keep it for ever.
  reply->when_gone([weak = std::weak_ptr(generation)] {
    if (const auto generation = weak.lock()) generation->abandon();
  });
  if (!worker_->run([generation] { generation->prepare_and_submit(); })) {
    throw ApiError(429, "the queue is full; try again soon", {}, "queue_full");
  }
  generations_.emplace(key, generation);  // what the worker does with it comes to this thread, later
}

void ApiServer::on_worker(HttpRequest& request, std::shared_ptr<HttpReply> reply,
                          std::function<HttpResponse()> work) {
  const uint64_t key = next_key_++;
  const bool queued = token_worker_->run([this, key, work = std::move(work)] {
    HttpResponse response;
    try {
      response = work();
    } catch (const ApiError& error) {
      response = error_response(error);
    } catch (const Error& error) {
      response = error_response(ApiError(400, error.what()));
    } catch (const std::exception& error) {
      log_warning("a request failed: ", error.what());
      response = error_response(ApiError(500, "the server failed on this request"));
    }
    // Replies stay on the I/O thread; only their key travels.
    post_([this, key, response = std::move(response)] {
      const auto waiting = replies_.extract(key);
      if (waiting.empty()) return;
      send(waiting.mapped().second, waiting.mapped().first, response);
    });
  });
  if (!queued) throw ApiError(429, "the queue is full; try again soon", {}, "queue_full");
  replies_.emplace(key, std::pair(std::move(reply), std::move(request)));
}

void ApiServer::tokenize(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  on_worker(request, std::move(reply),
            [this, engine = engine_, host = host_, body = std::move(request.body),
             share = std::move(request.body_share)]() mutable {
              const TokenizeRequest asked = parse_tokenize(std::exchange(body, {}), host->parse);
              share.reset();
              check_model(asked.model);
              Json::Array tokens;
              for (const int32_t id : engine->tokenize(asked.text, asked.add_special))
                tokens.push_back(integer(id));
              const auto count = static_cast<int64_t>(tokens.size());
              return json_response(200,
                                   Json(Json::Object{{"tokens", Json(std::move(tokens))},
                                                     {"count", integer(count)},
                                                     {"max_model_len", integer(engine->info().context)}}));
            });
}

void ApiServer::detokenize(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  on_worker(request, std::move(reply),
            [this, engine = engine_, host = host_, body = std::move(request.body),
             share = std::move(request.body_share)]() mutable {
              const DetokenizeRequest asked = parse_detokenize(std::exchange(body, {}), host->parse);
              share.reset();
              check_model(asked.model);
              require_short(*engine, asked.tokens, host->parse.limits.token_text_bytes);
              const std::string said = engine->detokenize(asked.tokens);
              return json_response(200, Json(Json::Object{{"prompt", Json(said)}, {"content", Json(said)}}));
            });
}

void ApiServer::page(HttpRequest& request, std::shared_ptr<HttpReply> reply) {
  const WebFile* file = find_web_file(request.path());
  HttpResponse response{200,
                        {{"Content-Type", std::string(file->type)},
                         {"ETag", std::string(file->etag)},
                         {"Cache-Control", "no-cache"},
                         {"Content-Security-Policy", kPagePolicy},
                         {"X-Content-Type-Options", "nosniff"},
                         {"Referrer-Policy", "no-referrer"}},
                        std::string(file->content)};
  if (request.header("if-none-match") == file->etag) {
    response.status = 304;
    response.body.clear();
  }
  send(request, reply, std::move(response));
}

void ApiServer::drain() {
  draining_ = true;
  if (engine_) engine_->drain();
}

void ApiServer::cut_short() {
  for (const auto& generation : open_generations()) generation->abandon("the server is shutting down");
}

// Held one by one, because what is done to one may end it and others.
std::vector<std::shared_ptr<Generation>> ApiServer::open_generations() const {
  std::vector<std::shared_ptr<Generation>> open;
  for (const auto& [key, generation] : generations_) open.push_back(generation);
  return open;
}

void ApiServer::ping_silent() {
  if (config_.ping_interval.count() == 0) return;
  const auto silent_since = Generation::Clock::now() - config_.ping_interval;
  for (const auto& generation : open_generations()) generation->ping(silent_since);
}

void ApiServer::end_unserved() {
  for (const auto& generation : open_generations()) generation->end_unserved();
}

bool ApiServer::stalled() {
  if (!engine_) return false;
  const EngineStats stats = engine_->stats();
  const auto still = std::chrono::steady_clock::now() - stats.progress_at;
  const bool stalled = stats.busy && still > config_.stall_timeout;
  const bool slow = stats.busy && still > config_.stall_warning;
  if (stalled && !stalled_) {
    log_stall(LogLevel::error, stats);
  } else if (slow && !slow_) {
    log_stall(LogLevel::warning, stats);
  }
  slow_ = slow;
  return stalled_ = stalled;
}

void ApiServer::log_stall(LogLevel level, const EngineStats& stats) const {
  const auto still = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                           stats.progress_at);
  const char* known = level == LogLevel::error ? "; /health says 503 until it goes on" : "";
  log_line(level, cat("the engine has made no progress for ", still.count(), " ms: ", stats.running,
                      " sequences running, ", stats.waiting, " waiting, ", stats.blocks_used, " of ",
                      stats.blocks, " blocks used, ", stats.steps, " steps", known));
}

}  // namespace llamita::server
