// A server over a fake engine, on a real socket, and clients that do to it what clients should not.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/cat.h"
#include "server/server.h"
#include "support/fake_engine.h"

namespace llamita::server {

using test::FakeEngine;
using namespace std::chrono_literals;

class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) {
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  // A hard end: the other side gets a reset.
  void reset() {
    const linger now{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  // Nothing more will be sent; replies could still be read.
  void close_sending_side() { ::shutdown(socket_, SHUT_WR); }
  void send(std::string_view text) {
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t n = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }
  void post(const std::string& path, const std::string& body) {
    send(cat("POST ", path, " HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", body.size(), "\r\n\r\n",
             body));
  }
  // Reads until `text` was seen or the connection ended; everything that came so far.
  const std::string& read_until(std::string_view text) {
    while (seen_.find(text) == std::string::npos && read_some()) {
    }
    return seen_;
  }
  const std::string& read_all() {
    while (read_some()) {
    }
    return seen_;
  }
  void forget() { seen_.clear(); }

 private:
  bool read_some() {
    pollfd wait{socket_, POLLIN, 0};
    if (::poll(&wait, 1, 30'000) <= 0) {
      ADD_FAILURE() << "nothing came; so far: " << seen_.substr(0, 2000);
      return false;
    }
    char buffer[8192];
    const ssize_t n = ::recv(socket_, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    seen_.append(buffer, static_cast<size_t>(n));
    return true;
  }

  int socket_;
  std::string seen_;
};

class HttpServerTest : public testing::Test {
 protected:
  void start(ServerConfig config = {}, FakeEngine::Options options = {}) {
    config.port = 0;
    server_ = std::make_unique<Server>(config);
    engine_ = std::make_shared<FakeEngine>(options);
    server_->attach(engine_);
    thread_ = std::thread([this] { ended_ = server_->run(); });
  }
  ~HttpServerTest() override {
    if (!server_) return;
    server_->stop();
    if (thread_.joinable()) thread_.join();
  }
  template <class Done>
  static bool wait_until(Done done) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (std::chrono::steady_clock::now() < end) {
      if (done()) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }
  bool idle() const { return !engine_->stats().busy; }
  int bodies_held() const {
    Client client(server_->port());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const std::string& text = client.read_all();
    const std::string name = "\nllamita_http_body_bytes ";
    const size_t at = text.find(name);
    return at == std::string::npos ? -1 : std::atoi(text.c_str() + at + name.size());
  }

  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
  Server::Ended ended_ = Server::Ended::stopped;
};

inline const char* const kEndless =
    R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":1000000,"stream":true})";
inline const char* const kEndlessWhole =
    R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":1000000})";
inline const char* const kShort =
    R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"stream":true})";

}  // namespace llamita::server
