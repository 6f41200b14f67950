// ApiServer: every route of the server, from a request to its reply. Lives on the I/O thread and knows no
// sockets; tests drive it with replies of their own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/log.h"
#include "llamita/async_engine.h"
#include "server/access.h"
#include "server/generation.h"
#include "server/http/http_server.h"
#include "server/metrics.h"
#include "server/server_config.h"
#include "server/worker.h"

namespace llamita::server {

class ApiServer {
 public:
  // What is served where; "{…}" stands for any text.
  struct Route {
    const char* method;
    const char* path;
    void (ApiServer::*run)(HttpRequest&, std::shared_ptr<HttpReply>);
    bool open;  // needs no API key
    bool needs_engine;
  };
  static const std::vector<Route>& routes();

  using Post = std::function<void(std::function<void()>)>;  // to the I/O thread, from any thread
  ApiServer(const ServerConfig& config, Post post);
  // The I/O thread must not run any more. Ends the worker, then the engine.
  ~ApiServer();
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  // The model is loaded: /health turns to 200.
  void attach(std::shared_ptr<AsyncEngine> engine);
  void handle(HttpRequest request, std::shared_ptr<HttpReply> reply);
  // Whether a request may send its body at all, once its header is there: who is not let in, is told at once.
  std::optional<HttpResponse> screen(const HttpRequest& head);
  // What a request that is no HTTP, or breaks a limit of HTTP, is told.
  HttpResponse refuse(int status, const std::string& message);

  // No new generations from now on; those under way go on.
  void drain();
  bool draining() const { return draining_; }
  size_t generations() const { return generations_.size(); }
  // Ends the generations under way with an error.
  void cut_short();
  // Looks whether the engine makes progress, and says in the log when it has made none for
  // ServerConfig::stall_warning. True when it has not for ServerConfig::stall_timeout.
  bool stalled();
  // The engine can compute nothing more.
  bool device_lost() const { return engine_ && engine_->stats().device_lost; }
  // Streams that are computed and were silent for ServerConfig::ping_interval get a comment.
  void ping_silent();
  // Requests that wait to be prepared for longer than ServerConfig::queue_timeout are told 503.
  void end_unserved();
  void count_http(const HttpCounts& counts) { http_ = counts; }

 private:
  const Route& find_route(const HttpRequest& request) const;  // throws ApiError
  const Route& admit(const HttpRequest& request) const;       // throws ApiError
  void answer(HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
  HttpResponse counted(const HttpRequest& request, HttpResponse response);

  void health(HttpRequest&, std::shared_ptr<HttpReply> reply);
  void version(HttpRequest&, std::shared_ptr<HttpReply> reply);
  void metrics(HttpRequest&, std::shared_ptr<HttpReply> reply);
  void live(HttpRequest&, std::shared_ptr<HttpReply> reply);
  void openapi(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void models(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void chat(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void completions(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void embeddings(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void tokenize(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void detokenize(HttpRequest& request, std::shared_ptr<HttpReply> reply);
  void page(HttpRequest& request, std::shared_ptr<HttpReply> reply);

  void generate(Endpoint endpoint, HttpRequest& request, std::shared_ptr<HttpReply> reply);
  // Runs `work` on token_worker_ and sends what it returns or the ApiError it throws.
  // Takes the body, as `work` should have done before.
  void on_worker(HttpRequest& request, std::shared_ptr<HttpReply> reply, std::function<HttpResponse()> work);
  void send(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply, HttpResponse response);
  std::vector<std::shared_ptr<Generation>> open_generations() const;
  void check_model(const std::optional<std::string>& name) const;
  void log_stall(LogLevel level, const EngineStats& stats) const;
  Json model_json(const std::string& name) const;

  ServerConfig config_;
  Post post_;
  Access access_;
  Metrics metrics_;
  HttpCounts http_;
  std::shared_ptr<AsyncEngine> engine_;
  std::shared_ptr<GenerationHost> host_;
  int64_t created_ = 0;
  std::atomic<bool> draining_ = false;
  bool stalled_ = false, slow_ = false;
  std::unordered_map<uint64_t, std::shared_ptr<Generation>> generations_;
  std::unordered_map<uint64_t, std::pair<std::shared_ptr<HttpReply>, HttpRequest>>
      replies_;  // of on_worker()
  uint64_t next_key_ = 0;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Worker> image_worker_;  // fetches and decodes images, for which no text should wait
  std::unique_ptr<Worker> token_worker_;  // of /tokenize and /detokenize, which no chat should wait for
};

}  // namespace llamita::server
