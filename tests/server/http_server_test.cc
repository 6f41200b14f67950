// The server over real sockets: connections, clients that leave, and the way down. Its limits are in
// http_limits_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/cat.h"
#include "server/http_server_support.h"

namespace llamita::server {
namespace {

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

// Who has said all while the reply is written gets the rest of it, and then the end of the connection, not
// its idle time. The I/O thread is kept until that has happened, between the reply's head and its body.
TEST(HttpServer, AHalfClosedConnectionEndsWithItsReply) {
  HttpServer http("127.0.0.1", 0, {});
  std::atomic<bool> asked = false, closed = false;
  const auto wait_for = [](const std::atomic<bool>& flag) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!flag && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    return flag.load();
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
    EXPECT_TRUE(wait_for(asked));
    http.post([&] {
      later->send({200, {}, "all of it"});
      later.reset();
      EXPECT_TRUE(wait_for(closed)) << "or it would be no half-closed connection that is written to";
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
  // Two seconds by docs/serving.md; a machine that is busy with other tests may take longer.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
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
