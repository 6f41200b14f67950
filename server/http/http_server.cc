#include "server/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "base/cat.h"
#include "base/log.h"
#include "llamita/error.h"
#include "server/http/connection.h"

namespace llamita::server {

namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;

constexpr std::chrono::milliseconds kAcceptPause{50};  // when no descriptor is left
constexpr int kMostTurnedAway = 32;                    // connections over the limit that are told so

}  // namespace

struct HttpServer::Impl {
  asio::io_context context{1};
  Tcp::acceptor acceptor{context};
  asio::steady_timer accept_pause{context};
  asio::signal_set signals{context};
  std::shared_ptr<ConnectionShared> shared;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{context.get_executor()};

  void listen(const std::string& address, uint16_t port) {
    boost::system::error_code error;
    const auto parsed = asio::ip::make_address(address == "localhost" ? "127.0.0.1" : address, error);
    if (error) throw Error(cat("'", address, "' is no IP address to listen on; 127.0.0.1 or 0.0.0.0, say"));
    const Tcp::endpoint endpoint(parsed, port);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      throw Error(cat("cannot listen on ", address, " port ", port, ": ", error.message(),
                      "; is another server running there? --port takes another"));
    }
  }

  void accept() {
    acceptor.async_accept([this](boost::system::error_code error, Tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) return pause_accepting();
      accept();  // first: it goes on whatever take() throws
      take(std::move(socket));
    });
  }

  // Over the limit a few are told so; where even those are many, the rest is closed without a word.
  void take(Tcp::socket socket) {
    const bool room = shared->connections < shared->limits.connections;
    if (!room && shared->turned_away >= kMostTurnedAway) return;
    const auto connection = std::make_shared<Connection>(std::move(socket), shared);
    if (room) return connection->start();
    connection->turn_away();
  }

  void pause_accepting() {
    accept_pause.expires_after(kAcceptPause);
    accept_pause.async_wait([this](boost::system::error_code error) {
      if (!error) accept();
    });
  }

  void tick(std::shared_ptr<asio::steady_timer> timer, std::chrono::milliseconds period,
            std::shared_ptr<std::function<void()>> task) {
    timer->expires_after(period);
    timer->async_wait([this, timer, period, task](boost::system::error_code error) {
      if (error) return;
      tick(timer, period, task);  // first: it goes on whatever the task throws
      (*task)();
    });
  }

  void wait_for_signal(std::function<void(int)> task) {
    signals.async_wait([this, task](boost::system::error_code error, int signal) {
      if (error) return;
      wait_for_signal(task);
      task(signal);
    });
  }
};

HttpServer::HttpServer(const std::string& address, uint16_t port, const HttpLimits& limits)
    : impl_(std::make_unique<Impl>()) {
  impl_->shared = std::make_shared<ConnectionShared>(limits);
  impl_->listen(address, port);
}

// Connections that wait in the context hold the handler; it is let go first, with what it refers to.
HttpServer::~HttpServer() {
  boost::system::error_code ignored;
  impl_->acceptor.close(ignored);
  impl_->shared->handler = nullptr;
  impl_->shared->refuse = nullptr;
  impl_->shared->screen = nullptr;
}

uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }
void HttpServer::handle(Handler handler) { impl_->shared->handler = std::move(handler); }
void HttpServer::screen_with(Screen screen) { impl_->shared->screen = std::move(screen); }
void HttpServer::refuse_with(Refuse refuse) { impl_->shared->refuse = std::move(refuse); }

void HttpServer::run() {
  impl_->accept();
  for (;;) {
    try {
      impl_->context.run();
      return;
    } catch (const std::exception& error) {
      log_line(LogLevel::error, cat("a task of the server failed: ", error.what()));
    }
  }
}

void HttpServer::stop() { impl_->context.stop(); }
void HttpServer::post(std::function<void()> task) { asio::post(impl_->context, std::move(task)); }

void HttpServer::every(std::chrono::milliseconds period, std::function<void()> task) {
  impl_->tick(std::make_shared<asio::steady_timer>(impl_->context), period,
              std::make_shared<std::function<void()>>(std::move(task)));
}

void HttpServer::on_signal(std::function<void(int)> task) {
  impl_->signals.add(SIGTERM);
  impl_->signals.add(SIGINT);
  impl_->wait_for_signal(std::move(task));
}

void HttpServer::limit_body(size_t bytes) { impl_->shared->limits.body_bytes = bytes; }
size_t HttpServer::bodies_held() const { return impl_->shared->bodies->held(); }
int HttpServer::connections() const { return impl_->shared->connections; }
int HttpServer::replies_under_way() const { return impl_->shared->replies_under_way; }
int64_t HttpServer::slow_readers_dropped() const { return impl_->shared->slow_readers_dropped; }

}  // namespace llamita::server
