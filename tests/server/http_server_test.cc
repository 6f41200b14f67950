// The server over real sockets: limits, timeouts, clients that leave, read slowly or send nonsense, and the
// way down.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/cat.h"
#include "server/server.h"
#include "support/fake_engine.h"

namespace llamita::server {
namespace {

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

const char* const kEndless =
    R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":1000000,"stream":true})";
const char* const kEndlessWhole = R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":1000000})";
const char* const kShort = R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"stream":true})";

TEST_F(HttpServerTest, KeepAliveAndRequestsAhead) {
  start();
  Client client(server_->port());
  client.send(
      "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.read_until("\"version\"");
  client.forget();
  client.post("/v1/chat/completions", kShort);
  EXPECT_NE(client.read_until("0\r\n\r\n").find("data: [DONE]"), std::string::npos);
  client.forget();
  client.send("HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  const std::string& head = client.read_all();
  EXPECT_NE(head.find("Content-Length: 15"), std::string::npos);
  EXPECT_EQ(head.find("{"), std::string::npos);
}

TEST_F(HttpServerTest, RefusalsCanBeRead) {
  ServerConfig config;
  config.http.body_bytes = 1000;
  start(config);
  Client large(server_->port());
  large.post("/v1/chat/completions", std::string(300'000, 'x'));
  EXPECT_NE(large.read_all().find("HTTP/1.1 413"), std::string::npos);
  Client nonsense(server_->port());
  nonsense.send("nonsense\r\n\r\n");
  EXPECT_NE(nonsense.read_all().find("\"invalid_request_error\""), std::string::npos);
}

TEST_F(HttpServerTest, BodiesMayBeLargerWhereTheModelTakesImages) {
  ServerConfig config;
  config.port = 0;
  config.http.body_bytes = 1000;
  config.http.image_body_bytes = 3000;
  const auto status_of = [](Client& client, size_t bytes) {
    client.forget();
    client.post("/tokenize", std::string(bytes, ' '));
    const std::string seen = client.read_until("}}");
    return seen.substr(9, 3);
  };
  server_ = std::make_unique<Server>(config);
  thread_ = std::thread([this] { ended_ = server_->run(); });
  {
    Client client(server_->port());
    EXPECT_EQ(status_of(client, 1000), "503");  // the model is loading
    EXPECT_EQ(status_of(client, 1001), "413");
  }
  Client early(server_->port());
  EXPECT_EQ(status_of(early, 1), "503");
  engine_ = std::make_shared<FakeEngine>(FakeEngine::Options{.image_tokens = 64});
  server_->attach(engine_);
  EXPECT_TRUE(wait_until([&] { return status_of(early, 1) == "400"; }));
  EXPECT_EQ(status_of(early, 2999), "400");  // read whole: spaces are no JSON
  EXPECT_EQ(status_of(early, 3000), "400");
  EXPECT_EQ(status_of(early, 3001), "413");
}

TEST_F(HttpServerTest, ConnectionsLimit) {
  ServerConfig config;
  config.http.connections = 3;
  start(config);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_NE(clients.back()->read_until("}").find("200 OK"), std::string::npos) << i;
  }
  Client fourth(server_->port());
  EXPECT_NE(fourth.read_all().find("HTTP/1.1 503"), std::string::npos);
  clients.pop_back();
  EXPECT_TRUE(wait_until([&] {
    Client again(server_->port());
    again.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    return again.read_all().find("200 OK") != std::string::npos;
  }));
}

// Over the limit some are told so. A crowd is closed without a word, and costs nothing more.
TEST_F(HttpServerTest, ACrowdOverTheLimitIsClosedAtOnce) {
  ServerConfig config;
  config.http.connections = 1;
  start(config);
  Client within(server_->port());
  within.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_NE(within.read_until("}").find("200 OK"), std::string::npos);
  std::vector<std::unique_ptr<Client>> crowd;
  for (int i = 0; i < 60; ++i) crowd.push_back(std::make_unique<Client>(server_->port()));
  int told = 0, closed = 0;
  for (const auto& client : crowd) {
    const std::string& seen = client->read_all();
    told += seen.find("HTTP/1.1 503") != std::string::npos ? 1 : 0;
    closed += seen.empty() ? 1 : 0;
  }
  EXPECT_GE(told, 1);
  EXPECT_GE(closed, 1);
  EXPECT_EQ(told + closed, 60);
  within.forget();
  within.send("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_NE(within.read_until("}").find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, StrangersAreRefusedBeforeTheirBodies) {
  ServerConfig config;
  config.api_keys = {std::string(32, 'k')};
  config.http.body_timeout = 2s;  // then it would be a 408
  start(config);
  const auto status_of = [&](const std::string& header) {
    Client client(server_->port());
    client.send(cat("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n", header,
                    "Content-Length: 4000000\r\n\r\n{"));
    return client.read_until("\r\n").substr(0, 12);
  };
  EXPECT_EQ(status_of(""), "HTTP/1.1 401");
  EXPECT_EQ(status_of("Authorization: Bearer no\r\n"), "HTTP/1.1 401");
  EXPECT_EQ(status_of("Expect: 100-continue\r\n"), "HTTP/1.1 401");
  EXPECT_EQ(status_of(cat("Authorization: Bearer ", config.api_keys[0], "\r\n")), "HTTP/1.1 408");
}

// Who has said all while the reply is written gets the rest of it, and then the end of the connection, not
// its idle time. The I/O thread is kept until that has happened, between the reply's head and its body.
TEST(HttpServer, AHalfClosedConnectionEndsWithItsReply) {
  HttpServer http("127.0.0.1", 0, {});
  std::atomic<bool> asked = false, closed = false;
  const auto wait_for = [](const std::atomic<bool>& flag) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!flag && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  };
  std::shared_ptr<HttpReply> later;
  http.handle([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    later = std::move(reply);
    asked = true;
  });
  std::thread thread([&] { http.run(); });
  {
    Client client(http.port());
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for(asked);
    http.post([&] {
      later->send({200, {}, "all of it"});
      later.reset();
      wait_for(closed);
      std::this_thread::sleep_for(20ms);  // until the end of the stream is here
    });
    client.read_until("\r\n\r\n");
    client.close_sending_side();
    closed = true;
    EXPECT_NE(client.read_all().find("all of it"), std::string::npos);
  }
  http.stop();
  thread.join();
}

TEST(HttpServer, AHandlerThatThrowsEndsItsConnectionOnly) {
  HttpServer http("127.0.0.1", 0, {});
  http.handle([](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path() == "/bad") throw std::runtime_error("bad");
    reply->send({200, {}, "good"});
  });
  std::thread thread([&] { http.run(); });
  for (int i = 0; i < 3; ++i) {
    Client bad(http.port());
    bad.send("GET /bad HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_EQ(bad.read_all(), "");
    Client good(http.port());
    good.send("GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_NE(good.read_until("good").find("200 OK"), std::string::npos);
  }
  http.post([] { throw std::runtime_error("a task"); });
  Client good(http.port());
  good.send("GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_NE(good.read_until("good").find("200 OK"), std::string::npos);
  http.stop();
  thread.join();
}

// Draining, the watchdog and pings hang on it.
TEST(HttpServer, WhatIsDoneNowAndThenGoesOnWhenItThrows) {
  HttpServer http("127.0.0.1", 0, {});
  std::atomic<int> calls = 0;
  std::thread thread;
  http.every(5ms, [&] {
    if (++calls == 1) throw std::runtime_error("once");
    if (calls == 3) http.stop();
  });
  std::atomic<bool> ended = false;
  thread = std::thread([&] {
    http.run();
    ended = true;
  });
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (!ended && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(calls, 3);
  http.stop();
  thread.join();
}

TEST_F(HttpServerTest, Timeouts) {
  ServerConfig config;
  config.http.header_timeout = 100ms;
  config.http.body_timeout = 100ms;
  config.http.idle_timeout = 100ms;
  start(config);
  Client silent(server_->port()), header(server_->port()), body(server_->port());
  header.send("GET / HT");
  body.send("POST /tokenize HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(silent.read_all(), "");
  EXPECT_NE(header.read_all().find("HTTP/1.1 408"), std::string::npos);
  EXPECT_NE(body.read_all().find("HTTP/1.1 408"), std::string::npos);
}

TEST_F(HttpServerTest, RequestsNameTheirHostFromHttp11On) {
  start();
  const auto reply = [&](const std::string& request) {
    Client client(server_->port());
    client.send(request);
    return client.read_all();
  };
  EXPECT_EQ(reply("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").rfind("HTTP/1.1 400", 0), 0u);
  EXPECT_EQ(reply("GET /health HTTP/1.0\r\n\r\n").rfind("HTTP/1.1 200", 0), 0u);
}

TEST_F(HttpServerTest, RepliesHaveADate) {
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110's example
  start();
  Client client(server_->port());
  client.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  const std::string head = client.read_all();
  const size_t at = head.find("\r\nDate: ");
  ASSERT_NE(at, std::string::npos) << head;
  const std::time_t now = std::time(nullptr);
  bool recent = false;
  for (std::time_t t = now - 60; t <= now; ++t) recent |= head.compare(at + 8, 29, http_date(t)) == 0;
  EXPECT_TRUE(recent) << head;
}

// Within the limits a slow client is served.
TEST_F(HttpServerTest, TimeoutsLeaveTime) {
  start();
  Client client(server_->port());
  for (const char* piece : {"POST /tokenize HTTP/1.1\r\nHost: loc",
                            "alhost\r\nContent-Length: 14\r\n\r\n{\"prom", "pt\":\"a\"}"}) {
    std::this_thread::sleep_for(50ms);
    client.send(piece);
  }
  EXPECT_NE(client.read_until("max_model_len").find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, AFullQueueSaysSoAtOnce) {
  FakeEngine::Options options;
  options.queue = 1;
  options.paused = true;
  start({}, options);
  Client waiting(server_->port());
  waiting.post("/v1/chat/completions", kEndlessWhole);
  ASSERT_TRUE(wait_until([&] { return engine_->stats().waiting == 1; }));
  std::vector<std::chrono::steady_clock::duration> times;
  for (int i = 0; i < 20; ++i) {
    Client client(server_->port());
    const auto begin = std::chrono::steady_clock::now();
    client.post("/v1/chat/completions", kEndless);
    const std::string& reply = client.read_until("}}");
    times.push_back(std::chrono::steady_clock::now() - begin);
    EXPECT_NE(reply.find("HTTP/1.1 429"), std::string::npos);
    EXPECT_NE(reply.find("Retry-After: 1"), std::string::npos);
  }
#ifndef LLAMITA_SANITIZED
  std::sort(times.begin(), times.end());
  EXPECT_LT(times[times.size() / 2], 50ms);  // the machine may be busy with another test at any one of them
#endif
  waiting.reset();
}

TEST_F(HttpServerTest, ContinueIsSaid) {
  start();
  Client client(server_->port());
  client.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n");
  EXPECT_NE(client.read_until("\r\n\r\n").find("100 Continue"), std::string::npos);
  client.send(R"({"prompt":"a"})");
  EXPECT_NE(client.read_until("max_model_len").find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, LeavingFreesTheEngine) {
  FakeEngine::Options options;
  options.running = 2;
  options.step = 2ms;
  start({}, options);
  Client stream(server_->port()), whole(server_->port()), waiting(server_->port()), half(server_->port());
  stream.post("/v1/chat/completions", kEndless);
  stream.read_until("three");
  whole.post("/v1/chat/completions", kEndlessWhole);
  ASSERT_TRUE(wait_until([&] { return engine_->stats().running == 2; }));
  waiting.post("/v1/chat/completions", kEndlessWhole);
  half.post("/v1/chat/completions", kEndless);
  ASSERT_TRUE(wait_until([&] { return engine_->stats().waiting == 2; }));
  waiting.close();
  ASSERT_TRUE(wait_until([&] { return engine_->stats().waiting == 1; }));
  half.close_sending_side();
  ASSERT_TRUE(wait_until([&] { return engine_->stats().waiting == 0; }));
  whole.reset();
  stream.close();
  EXPECT_TRUE(wait_until([&] { return idle(); }));
  EXPECT_EQ(engine_->cancelled(), 4);
}

TEST_F(HttpServerTest, ASlowReaderIsDroppedAndOthersGoOn) {
  ServerConfig config;
  config.http.write_queue_bytes = 20'000;
  config.http.send_buffer_bytes = 4096;
  FakeEngine::Options options;
  options.step = std::chrono::microseconds(50);
  start(config, options);
  Client slow(server_->port(), 4096);
  slow.post("/v1/chat/completions", kEndless);
  Client other(server_->port());
  other.post("/v1/chat/completions", kShort);
  EXPECT_NE(other.read_until("[DONE]").find("three"), std::string::npos);
  EXPECT_TRUE(wait_until([&] { return idle(); }));
  EXPECT_EQ(engine_->cancelled(), 1);
  EXPECT_EQ(slow.read_all().find("[DONE]"), std::string::npos);
}

// The prompts that `echo` asks for come in one piece, larger than what may be left unread.
TEST_F(HttpServerTest, ALargePieceDropsNobody) {
  ServerConfig config;
  config.http.write_queue_bytes = 20'000;
  config.http.send_buffer_bytes = 4096;
  start(config);
  Client client(server_->port());
  client.post("/v1/completions", cat(R"({"prompt":")", std::string(200'000, 'w'),
                                     R"(","echo":true,"stream":true,"max_tokens":3})"));
  const std::string& reply = client.read_until("[DONE]");
  EXPECT_GT(reply.size(), 200'000u);
  EXPECT_NE(reply.find(" three"), std::string::npos);
}

TEST_F(HttpServerTest, AReaderThatTakesNothingIsDropped) {
  ServerConfig config;
  config.http.write_timeout = 200ms;
  config.http.write_queue_bytes = size_t{1} << 40;
  config.http.send_buffer_bytes = 4096;
  FakeEngine::Options options;
  options.step = std::chrono::microseconds(50);
  start(config, options);
  Client slow(server_->port(), 4096);
  slow.post("/v1/chat/completions", kEndless);
  EXPECT_TRUE(wait_until([&] { return engine_->cancelled() == 1 && idle(); }));
}

TEST_F(HttpServerTest, DrainFinishesWhatIsUnderWay) {
  FakeEngine::Options options;
  options.step = 5ms;
  start({}, options);
  Client client(server_->port()), late(server_->port());
  client.post("/v1/chat/completions",
              R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":30,"stream":true})");
  client.read_until("two");
  server_->shut_down();
  ASSERT_TRUE(wait_until([&] {
    late.forget();
    late.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    return late.read_until("}").find("draining") != std::string::npos;
  }));
  EXPECT_NE(client.read_until("[DONE]").find("\"finish_reason\":\"length\""), std::string::npos);
  thread_.join();
  EXPECT_EQ(ended_, Server::Ended::drained);
}

TEST_F(HttpServerTest, DrainCutsAtItsTimeout) {
  ServerConfig config;
  config.drain_timeout = 100ms;
  FakeEngine::Options options;
  options.step = 5ms;
  start(config, options);
  Client client(server_->port());
  client.post("/v1/chat/completions", kEndless);
  client.read_until("two");
  server_->shut_down();
  EXPECT_NE(client.read_until("[DONE]").find("shutting down"), std::string::npos);
  thread_.join();
  EXPECT_EQ(ended_, Server::Ended::drained);
}

TEST_F(HttpServerTest, AStallEndsTheServerWhereThatIsAskedFor) {
  ServerConfig config;
  config.stall_timeout = 10ms;
  config.exit_on_stall = true;
  start(config);
  engine_->pretend([](EngineStats& stats) {
    stats.busy = true;
    stats.progress_at -= 1s;
  });
  thread_.join();
  EXPECT_EQ(ended_, Server::Ended::stalled);
}

TEST_F(HttpServerTest, ALostDeviceTellsEverybodyAndEndsTheServer) {
  FakeEngine::Options options;
  options.step = 5ms;
  options.running = 2;
  start({}, options);
  Client stream(server_->port()), whole(server_->port()), queued(server_->port());
  stream.post("/v1/chat/completions", kEndless);
  stream.read_until("two");
  whole.post("/v1/chat/completions", kEndlessWhole);
  ASSERT_TRUE(wait_until([&] { return engine_->stats().running == 2; }));
  queued.post("/v1/chat/completions", kEndless);
  ASSERT_TRUE(wait_until([&] { return engine_->stats().waiting == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  engine_->lose_device();
  EXPECT_NE(stream.read_until("[DONE]").find("the device is lost"), std::string::npos);
  EXPECT_NE(whole.read_until("}}").find("HTTP/1.1 500"), std::string::npos);
  EXPECT_NE(queued.read_until("}}").find("HTTP/1.1 500"), std::string::npos);
  thread_.join();
  EXPECT_EQ(ended_, Server::Ended::device_lost);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
}

// The bodies of all connections together, whoever sends them: here one holds 600 bytes of 1000.
TEST_F(HttpServerTest, BodiesAreBoundedInSum) {
  ServerConfig config;
  config.http.body_bytes = config.http.image_body_bytes = config.http.bodies_bytes = 1000;
  start(config);
  const auto body = [](size_t bytes) {
    const std::string start = R"({"prompt":")", end = R"("})";
    return start + std::string(bytes - start.size() - end.size(), 'a') + end;
  };
  const auto whole = [](const std::string& text) {
    return cat("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", text.size(), "\r\n\r\n",
               text);
  };
  const auto in_chunks = [](const std::string& text) {
    return cat("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
               chunk(text), chunk(""));
  };
  {
    Client holder(server_->port());
    holder.send(cat("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n", body(600)));
    ASSERT_TRUE(wait_until([&] { return bodies_held() == 600; }));
    for (const size_t bytes : {size_t{399}, size_t{400}, size_t{401}}) {
      for (const std::string& request : {whole(body(bytes)), in_chunks(body(bytes))}) {
        Client client(server_->port());
        client.send(request);
        const std::string& seen = client.read_until("}");
        EXPECT_EQ(seen.substr(0, 12), bytes <= 400 ? "HTTP/1.1 200" : "HTTP/1.1 503") << bytes;
        EXPECT_EQ(seen.find("Retry-After: 1") != std::string::npos, bytes > 400) << seen;
      }
    }
    // A body that is announced and does not fit is refused before it is sent.
    Client announced(server_->port());
    announced.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 401\r\n\r\n");
    EXPECT_EQ(announced.read_until("\r\n").substr(0, 12), "HTTP/1.1 503");
  }
  // Who leaves gives it back, and then one alone may be as large as all.
  EXPECT_TRUE(wait_until([&] { return bodies_held() == 0; }));
  Client alone(server_->port());
  alone.post("/tokenize", body(1000));
  EXPECT_NE(alone.read_until("max_model_len").find("200 OK"), std::string::npos);
}

// How full the server is, is no stranger's business.
TEST_F(HttpServerTest, StrangersAreRefusedBeforeTheirBodiesAreWeighed) {
  ServerConfig config;
  config.api_keys = {std::string(32, 'k')};
  config.http.body_bytes = config.http.image_body_bytes = config.http.bodies_bytes = 1000;
  start(config);
  const auto request = [](const std::string& key, size_t length, size_t sent) {
    return cat("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ", key,
               "\r\nContent-Length: ", length, "\r\n\r\n", std::string(sent, ' '));
  };
  const std::string& key = config.api_keys[0];
  Client holder(server_->port());
  holder.send(request(key, 900, 600));
  for (const size_t sent : {size_t{0}, size_t{1}, size_t{401}}) {
    for (const bool known : {false, true}) {
      // Until the holder's bytes are there a body would fit.
      EXPECT_TRUE(wait_until([&] {
        Client client(server_->port());
        client.send(request(known ? key : std::string(32, 'x'), 401, sent));
        const std::string status = client.read_until("\r\n").substr(9, 3);
        EXPECT_NE(status, known ? "401" : "503");
        return status == (known ? "503" : "401");
      })) << sent;
    }
  }
}

TEST_F(HttpServerTest, AModelWithImagesNeedsRoomForTheirBodies) {
  ServerConfig config;
  config.http.bodies_bytes = config.http.image_body_bytes - 1;
  start(config);  // a model without
  EXPECT_THROW(server_->attach(std::make_shared<FakeEngine>(FakeEngine::Options{.image_tokens = 64})), Error);
}

// Requests that wait to be parsed hold their bodies, too.
TEST_F(HttpServerTest, BodiesThatWaitToBeParsedCount) {
  ServerConfig config;
  config.http.body_bytes = config.http.image_body_bytes = config.http.bodies_bytes = 1000;
  start(config);
  engine_->hold_tokenize(true);
  const std::string body = cat(R"({"prompt":")", std::string(400, 'a'), R"("})");
  const auto size = static_cast<int>(body.size());
  Client first(server_->port()), second(server_->port()), third(server_->port()), fourth(server_->port());
  first.post("/tokenize", body);  // is parsed, and keeps the only thread
  std::this_thread::sleep_for(100ms);
  ASSERT_TRUE(wait_until([&] { return bodies_held() == 0; }));
  second.post("/tokenize", body);
  ASSERT_TRUE(wait_until([&] { return bodies_held() == size; }));
  third.post("/tokenize", body);
  ASSERT_TRUE(wait_until([&] { return bodies_held() == 2 * size; }));
  fourth.post("/tokenize", body);
  EXPECT_EQ(fourth.read_until("\r\n").substr(0, 12), "HTTP/1.1 503");
  engine_->hold_tokenize(false);
  for (Client* client : {&first, &second, &third}) {
    EXPECT_NE(client->read_until("max_model_len").find("200 OK"), std::string::npos);
  }
}

TEST_F(HttpServerTest, ManyStreamsAtOnceAreWholeAndAlike) {
  start();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] {
      Client client(server_->port());
      client.post("/v1/chat/completions", cat(R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":)",
                                              20 + i, R"(,"stream":true})"));
      const std::string text = client.read_until("[DONE]");
      size_t words = 0;
      for (size_t at = 0; (at = text.find("\"content\":\"", at)) != std::string::npos; ++at) ++words;
      good += words == static_cast<size_t>(21 + i);  // and the empty one beside the role
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 16);
}

}  // namespace
}  // namespace llamita::server
