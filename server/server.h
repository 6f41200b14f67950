// Server: HTTP, the API and what keeps them going: signals, draining, the watchdog.
//
//   Server server(config);               // listens; /health says 503 until a model is there
//   server.attach(AsyncEngine::load(…));  // from any thread
//   Server::Ended ended = server.run();   // until a signal
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "server/api_server.h"
#include "server/http/http_server.h"
#include "server/server_config.h"

namespace llamita::server {

class Server {
 public:
  // Throws Error when the configuration makes no sense or the address is taken.
  explicit Server(const ServerConfig& config);
  ~Server();

  uint16_t port() const { return http_.port(); }
  void attach(std::shared_ptr<AsyncEngine> engine);

  enum class Ended {
    drained,      // after a signal: what was under way is finished, or was cut at the drain timeout
    aborted,      // by a second signal
    device_lost,  // the engine can compute nothing more; what was under way was told so
    stalled,      // the watchdog, with ServerConfig::exit_on_stall
    stopped,      // by stop()
  };
  // Serves on the calling thread. SIGTERM and SIGINT drain.
  Ended run();
  // From any thread; at once.
  void stop();
  // As the first signal does. From any thread.
  void shut_down();

 private:
  void on_signal();
  void tick();
  void end_lost();
  void end(Ended ended);
  void log_end() const;

  ServerConfig config_;
  HttpServer http_;
  std::unique_ptr<ApiServer> api_;  // before http_ is gone, because it holds replies
  Ended ended_ = Ended::stopped;
  std::optional<std::chrono::steady_clock::time_point> drain_by_, lost_by_;
  bool cut_short_ = false;
};

}  // namespace llamita::server
