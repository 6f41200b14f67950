#include "server/server.h"

#include "base/log.h"

namespace llamita::server {

namespace {

constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::seconds kGoodbye{1};  // for the last words to be written

const ServerConfig& checked(const ServerConfig& config) {
  check_config(config);
  return config;
}

}  // namespace

Server::Server(const ServerConfig& config)
    : config_(checked(config)), http_(config.address, config.port, config.http) {
  api_ = std::make_unique<ApiServer>(config_,
                                     [this](std::function<void()> task) { http_.post(std::move(task)); });
  http_.handle([this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    api_->handle(std::move(request), std::move(reply));
  });
  http_.screen_with([this](const HttpRequest& head) { return api_->screen(head); });
  http_.refuse_with([this](int status, const std::string& message) { return api_->refuse(status, message); });
  http_.every(kTick, [this] { tick(); });
}

Server::~Server() { api_.reset(); }

void Server::attach(std::shared_ptr<AsyncEngine> engine) {
  const bool takes_images = engine->info().image_tokens > 0 && config_.api.images.images > 0;
  if (takes_images) check_image_bodies(config_);
  http_.post([this, engine, takes_images] {
    if (takes_images) http_.limit_body(config_.http.image_body_bytes);
    api_->attach(engine);
  });
}

Server::Ended Server::run() {
  http_.on_signal([this](int) { on_signal(); });
  http_.run();
  log_end();
  return ended_;
}

void Server::log_end() const {
  switch (ended_) {
    case Ended::drained:
      return log_info(cut_short_ ? "ended; what was cut short was told so" : "ended: all is answered");
    case Ended::aborted:
      return log_warning("ended at once, with ", api_->generations(), " requests under way");
    case Ended::stalled: return log_line(LogLevel::error, "ended, because the engine makes no progress");
    case Ended::device_lost: return log_line(LogLevel::error, "ended, because the device is lost");
    case Ended::stopped: return;
  }
}

void Server::stop() {
  http_.post([this] { end(Ended::stopped); });
}

void Server::shut_down() {
  http_.post([this] {
    if (!api_->draining()) on_signal();
  });
}

void Server::on_signal() {
  if (api_->draining()) return end(Ended::aborted);
  const auto patience = std::chrono::duration_cast<std::chrono::seconds>(config_.drain_timeout).count();
  log_info("draining: ", api_->generations(), " requests under way have ", patience,
           " s to finish; a second signal ends at once");
  drain_by_ = std::chrono::steady_clock::now() + config_.drain_timeout;
  api_->drain();
}

void Server::tick() {
  api_->count_http(
      {http_.connections(), static_cast<int64_t>(http_.bodies_held()), http_.slow_readers_dropped()});
  api_->ping_silent();
  api_->end_unserved();
  if (api_->device_lost()) return end_lost();
  if (api_->stalled() && config_.exit_on_stall) return end(Ended::stalled);
  if (!drain_by_) return;
  if (api_->generations() == 0 && http_.replies_under_way() == 0) return end(Ended::drained);
  const auto now = std::chrono::steady_clock::now();
  if (now < *drain_by_) return;
  if (!cut_short_) {
    log_warning("the drain timeout is over: ", api_->generations(), " requests are cut short");
    cut_short_ = true;
    drain_by_ = now + kGoodbye;
    return api_->cut_short();
  }
  end(Ended::drained);
}

// No request can be served any more: the sooner a new process takes over, the better.
void Server::end_lost() {
  const auto now = std::chrono::steady_clock::now();
  if (!lost_by_) lost_by_ = now + kGoodbye;
  const bool told = api_->generations() == 0 && http_.replies_under_way() == 0;
  if (told || now >= *lost_by_) end(Ended::device_lost);
}

void Server::end(Ended ended) {
  ended_ = ended;
  http_.stop();
}

}  // namespace llamita::server
