// The limits of the server over real sockets, each at its edge: sizes, counts, times, clients that read
// slowly.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <thread>

#include "base/cat.h"
#include "server/http_server_support.h"

namespace llamita::server {
namespace {

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

// 512 are served, one more is told 503. Both ends of each are in this process.
TEST_F(HttpServerTest, ByDefault512ConnectionsAreServed) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  ASSERT_GE(files.rlim_cur, 1200u) << "this test needs more open files";
  start();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 1; i <= 513; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_EQ(clients.back()->read_until("}").substr(9, 3), i <= 512 ? "200" : "503") << i;
  }
}

TEST_F(HttpServerTest, ByDefaultABodyWithImagesHas32MiB) {
  start({}, FakeEngine::Options{.image_tokens = 64});
  constexpr size_t kMost = size_t{32} << 20;
  const auto status_of = [&](size_t bytes) {
    Client client(server_->port());
    client.post("/tokenize", std::string(bytes, ' '));
    return client.read_until("}}").substr(9, 3);
  };
  ASSERT_TRUE(wait_until([&] { return status_of(1) == "400"; }));  // the model is there
  EXPECT_EQ(status_of(kMost - 1), "400");                          // read whole: spaces are no JSON
  EXPECT_EQ(status_of(kMost), "400");
  EXPECT_EQ(status_of(kMost + 1), "413");
}

TEST_F(HttpServerTest, ByDefaultABodyHas8MiB) {
  start();
  constexpr size_t kMost = size_t{8} << 20;
  for (const size_t bytes : {kMost - 1, kMost, kMost + 1}) {
    Client client(server_->port());
    client.post("/tokenize", std::string(bytes, ' '));
    EXPECT_EQ(client.read_until("}}").substr(9, 3), bytes > kMost ? "413" : "400") << bytes;
  }
}

// What one handler writes is counted before any of it can be on its way, so the edge is a byte wide: the
// stream's head and four pieces are `queued` bytes, of which the largest piece is free.
TEST(HttpServer, UnreadBytesAreCountedToTheByte) {
  const std::string piece(1000, 'p');
  const size_t queued =
      response_head(200, {}, "Transfer-Encoding: chunked", false).size() + 4 * chunk(piece).size();
  for (const int more : {-1, 0, 1}) {
    HttpLimits limits;
    limits.write_queue_bytes = queued - piece.size() + static_cast<size_t>(more);
    HttpServer http("127.0.0.1", 0, limits);
    http.handle([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
      reply->begin({200, {}, {}});
      for (int i = 0; i < 4; ++i) reply->write(piece);
      reply->end();
    });
    std::thread thread([&] { http.run(); });
    Client client(http.port());
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const bool whole = client.read_all().find("0\r\n\r\n") != std::string::npos;
    http.stop();
    thread.join();
    EXPECT_EQ(whole, more >= 0) << more;
    EXPECT_EQ(http.slow_readers_dropped(), more >= 0 ? 0 : 1) << more;
  }
}

// Each time-out leaves all of its time and not much more. What is waited for begins after `begin`, so it
// cannot come earlier than the limit.
TEST_F(HttpServerTest, TimeoutsFireWhenTheirTimeIsOver) {
  constexpr auto kLimit = 400ms;
  ServerConfig config;
  config.http.header_timeout = config.http.body_timeout = config.http.idle_timeout = kLimit;
  start(config);
  const std::string body = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n";
  for (const std::string& sent : {std::string(), std::string("GET / HT"), body + "{\"prom"}) {
    const auto begin = std::chrono::steady_clock::now();
    Client client(server_->port());
    client.send(sent);
    const std::string& seen = client.read_all();
    const auto took = std::chrono::steady_clock::now() - begin;
    EXPECT_EQ(seen.substr(0, 12), sent.empty() ? "" : "HTTP/1.1 408");
    EXPECT_GE(took, kLimit) << sent;
    EXPECT_LT(took, kLimit + 10s) << sent;  // the last 2 s of a refusal are for it to be read
  }
  // Half of each is left: a header, a body and a pause that take 200 ms each are no reason.
  Client client(server_->port());
  for (int request = 0; request < 2; ++request) {
    for (const std::string& piece :
         {body.substr(0, 20), body.substr(20) + "{\"prom", std::string("pt\":\"a\"}")}) {
      std::this_thread::sleep_for(kLimit / 2);
      client.send(piece);
    }
    EXPECT_NE(client.read_until("max_model_len").find("200 OK"), std::string::npos) << request;
    client.forget();
  }
}

}  // namespace
}  // namespace llamita::server
