// How replies wait and end over a fake engine: clients that leave, timeouts, pings, failures, the way down.
#include "server/api_server.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/cat.h"
#include "server/api_server_support.h"

namespace llamita::server {
namespace {

TEST_F(ApiServerTest, AGrammarThatIsTooCostlyIsTheClientsFault) {
  start();
  engine_->fail("too costly, says the engine", kGrammarTooCostly);
  const auto whole = answer("POST", "/v1/chat/completions", kChat);
  EXPECT_EQ(whole->head.status, 400);
  EXPECT_NE(whole->body.find(R"("code":"grammar_too_costly")"), std::string::npos) << whole->body;
  const auto stream = answer("POST", "/v1/chat/completions", kStream);
  EXPECT_EQ(stream->head.status, 200);
  EXPECT_NE(stream->body.find(R"("code":"grammar_too_costly")"), std::string::npos) << stream->body;
  engine_->fail("broken", "");
  EXPECT_EQ(answer("POST", "/v1/chat/completions", kChat)->head.status, 500);
}

// A reply that throws a few times.
class ThrowingReply : public RecordedReply {
 public:
  explicit ThrowingReply(int times) : times_(times) {}
  void send(HttpResponse response) override {
    perhaps();
    RecordedReply::send(std::move(response));
  }
  void begin(HttpResponse response) override {
    perhaps();
    RecordedReply::begin(std::move(response));
  }

 private:
  void perhaps() {
    if (times_-- > 0) throw std::runtime_error("no memory, say");
  }
  int times_;
};

TEST_F(ApiServerTest, WhatIsThrownEndsOneRequestAlone) {
  start();
  for (const char* target : {"/version", "/v1/chat/completions"}) {
    const bool chat = std::string_view(target) != "/version";
    for (const char* body : {kChat, kStream}) {
      const auto reply = std::make_shared<ThrowingReply>(1);
      api_->handle({chat ? "POST" : "GET", target, {}, body, true}, reply);
      EXPECT_TRUE(run_until([&] { return reply->complete; })) << target;
      EXPECT_EQ(reply->head.status, 500);
      const Headers& headers = reply->head.headers;
      const auto types = std::count_if(headers.begin(), headers.end(),
                                       [](const auto& header) { return header.first == "Content-Type"; });
      EXPECT_EQ(types, 1) << "of the error, not of the stream that did not begin";
    }
  }
  const auto hopeless = std::make_shared<ThrowingReply>(1000);
  api_->handle({"POST", "/v1/chat/completions", {}, kStream, true}, hopeless);
  EXPECT_TRUE(run_until([&] { return api_->generations() == 0; }));
  EXPECT_EQ(answer("POST", "/v1/chat/completions", kChat)->head.status, 200);
}

TEST_F(ApiServerTest, LeavingCancelsInEveryPhase) {
  FakeEngine::Options options;
  options.running = 1;
  options.step = 5ms;
  start({}, options);
  const char* long_stream =
      R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":100000,"stream":true})";
  const char* long_whole = R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":100000})";
  const auto streaming = ask("POST", "/v1/chat/completions", long_stream);
  ASSERT_TRUE(run_until([&] { return streaming->body.find("one") != std::string::npos; }));
  const auto waiting = ask("POST", "/v1/chat/completions", long_whole);
  ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 1; }));
  const auto preparing = ask("POST", "/v1/chat/completions", long_whole);
  preparing->gone();
  waiting->gone();
  ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 0; }));
  streaming->gone();
  ASSERT_TRUE(run_until([&] { return !engine_->stats().busy; }));
  const auto whole = ask("POST", "/v1/chat/completions", long_whole);
  ASSERT_TRUE(run_until([&] { return engine_->stats().running == 1; }));
  whole->gone();
  EXPECT_TRUE(run_until([&] { return !engine_->stats().busy && api_->generations() == 0; }));
}

TEST_F(ApiServerTest, DeadlineEndsWithWhatIsThere) {
  ServerConfig config;
  config.request_timeout = 50ms;
  FakeEngine::Options options;
  options.step = 10ms;
  start(config, options);
  const auto reply = answer("POST", "/v1/chat/completions",
                            R"({"messages":[{"role":"user","content":"a"}],"max_tokens":100000})");
  EXPECT_EQ(reply->head.status, 200);
  EXPECT_NE(reply->body.find(R"("finish_reason":"length")"), std::string::npos);
}

// A reply takes 100 ms; who waits longer than the queue's timeout for it to end is told 503, streams too.
TEST_F(ApiServerTest, WaitingForATurnHasATimeout) {
  for (const auto timeout : {30ms, 20'000ms}) {
    ServerConfig config;
    config.queue_timeout = timeout;
    FakeEngine::Options options;
    options.running = 1;
    options.step = 10ms;
    start(config, options);
    const auto first = ask("POST", "/v1/chat/completions",
                           R"({"messages":[{"role":"user","content":"a"}],"max_tokens":10})");
    ASSERT_TRUE(run_until([&] { return engine_->stats().running == 1; }));
    const auto stream = ask("POST", "/v1/chat/completions", kStream);
    const auto whole = answer("POST", "/v1/chat/completions", kChat);
    ASSERT_TRUE(run_until([&] { return first->complete && stream->complete; }));
    EXPECT_EQ(first->head.status, 200);
    for (const auto& waited : {stream, whole}) {
      EXPECT_EQ(waited->head.status, timeout < 1s ? 503 : 200);
      EXPECT_EQ(header(*waited, "Retry-After"), timeout < 1s ? "1" : "");
      EXPECT_EQ(waited->body.find("\"queue_timeout\"") != std::string::npos, timeout < 1s) << waited->body;
    }
    EXPECT_TRUE(run_until([&] { return api_->generations() == 0; }));
    api_.reset();
  }
}

// What happens to one request while the others are looked after is that request's alone.
TEST_F(ApiServerTest, APingThatThrowsEndsOneRequestAlone) {
  ServerConfig config;
  config.ping_interval = 20ms;
  start(config);
  engine_->hold_prefill(true);
  std::vector<std::shared_ptr<RecordedReply>> replies;
  for (const int times : {0, 1, 1000, 0}) {
    replies.push_back(std::make_shared<ThrowingReply>(times));
    api_->handle({"POST", "/v1/chat/completions", {}, kStream, true}, replies.back());
  }
  ASSERT_TRUE(run_until([&] { return engine_->stats().running == 4; }));
  EXPECT_TRUE(run_until([&] {
    api_->ping_silent();
    return !replies[0]->body.empty() && replies[1]->complete && !replies[3]->body.empty();
  }));
  EXPECT_EQ(replies[1]->head.status, 500);
  engine_->hold_prefill(false);
  EXPECT_TRUE(run_until([&] { return api_->generations() == 0; }));
  for (const int good : {0, 3}) EXPECT_NE(replies[good]->body.find("three"), std::string::npos);
}

TEST_F(ApiServerTest, AnEndThatThrowsKeepsNobodyFromBeingTold) {
  start();
  engine_->hold_prefill(true);
  const auto bad = std::make_shared<ThrowingReply>(1000);
  const auto first = ask("POST", "/v1/chat/completions", kChat);
  api_->handle({"POST", "/v1/chat/completions", {}, kStream, true}, bad);
  const auto second = ask("POST", "/v1/chat/completions", kChat);
  ASSERT_TRUE(run_until([&] { return engine_->stats().running == 3; }));
  api_->drain();
  api_->cut_short();
  for (const auto& reply : {first, second}) EXPECT_EQ(reply->head.status, 503);
  EXPECT_EQ(api_->generations(), 0u);
  // A reply to a request that is refused after it was looked at, too.
  engine_->hold_prefill(false);
  start();
  const auto refused = std::make_shared<ThrowingReply>(1000);
  api_->handle({"POST", "/v1/chat/completions", {}, "{", true}, refused);
  EXPECT_EQ(api_->generations(), 1u);
  EXPECT_TRUE(run_until([&] { return api_->generations() == 0; }));
}

// Proxies take a connection for dead that is silent for long: a stream in a long prefill says so in comments,
// and a reply that comes whole says nothing before it is there.
TEST_F(ApiServerTest, StreamsThatAreComputedInSilenceArePinged) {
  ServerConfig config;
  config.ping_interval = 20ms;
  start(config);
  engine_->hold_prefill(true);
  const auto stream = ask("POST", "/v1/chat/completions", kStream);
  const auto whole = ask("POST", "/v1/chat/completions", kChat);
  const auto pinged = [&] {
    api_->ping_silent();
    return stream->body.size() >= 2 * std::string(": ping\n\n").size();
  };
  EXPECT_EQ(stream->head.status, 0);
  ASSERT_TRUE(run_until(pinged));
  EXPECT_EQ(stream->head.status, 200);
  EXPECT_EQ(header(*stream, "Content-Type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(stream->body.find("data:"), std::string::npos) << stream->body;
  EXPECT_EQ(whole->head.status, 0);
  engine_->hold_prefill(false);
  ASSERT_TRUE(run_until([&] { return stream->complete && whole->complete; }));
  EXPECT_EQ(whole->body.find("ping"), std::string::npos);
  // The events are those of a stream that did not wait.
  const std::string events = stream->body.substr(stream->body.find("data:"));
  EXPECT_EQ(events.find(": ping"), std::string::npos) << "a stream that speaks is pinged";
  EXPECT_NE(events.find("\"role\":\"assistant\""), std::string::npos);
  EXPECT_NE(events.find("three"), std::string::npos);
  EXPECT_NE(events.find("data: [DONE]"), std::string::npos);
}

TEST_F(ApiServerTest, PingsHaveAnInterval) {
  for (const auto interval : {0ms, 60'000ms}) {  // 0: never
    ServerConfig config;
    config.ping_interval = interval;
    start(config);
    engine_->hold_prefill(true);
    const auto stream = ask("POST", "/v1/chat/completions", kStream);
    ASSERT_TRUE(run_until([&] { return engine_->stats().running == 1; }));
    const auto end = std::chrono::steady_clock::now() + 100ms;
    EXPECT_TRUE(run_until([&] {
      api_->ping_silent();
      return std::chrono::steady_clock::now() > end;
    }));
    EXPECT_EQ(stream->head.status, 0);
    engine_->hold_prefill(false);
    ASSERT_TRUE(run_until([&] { return stream->complete; }));
    EXPECT_EQ(stream->body.find("ping"), std::string::npos);
    api_.reset();
  }
}

// By default, too, pings come more often than the queue's timeout: who waits in vain must be able to read it
// from the status.
TEST_F(ApiServerTest, AStreamThatOnlyWaitsKeepsItsStatusOpen) {
  EXPECT_LT(ServerConfig{}.ping_interval, ServerConfig{}.queue_timeout);
  ServerConfig config;
  config.ping_interval = 20ms;
  config.queue_timeout = 200ms;
  FakeEngine::Options options;
  options.running = 1;
  options.step = 10ms;
  start(config, options);
  const auto endless = ask("POST", "/v1/chat/completions",
                           R"({"messages":[{"role":"user","content":"a"}],"max_tokens":100000})");
  ASSERT_TRUE(run_until([&] { return engine_->stats().running == 1; }));
  const auto stream = ask("POST", "/v1/chat/completions", kStream);
  EXPECT_TRUE(run_until([&] {
    api_->ping_silent();
    return stream->complete;
  }));
  EXPECT_EQ(stream->head.status, 503);
  EXPECT_EQ(header(*stream, "Retry-After"), "1");
  EXPECT_EQ(stream->body.find("ping"), std::string::npos) << stream->body;
  EXPECT_NE(stream->body.find("\"queue_timeout\""), std::string::npos) << stream->body;
  endless->gone();
}

// Once a ping is sent it is too late for a status; the error comes as an event.
TEST_F(ApiServerTest, AStreamThatWasPingedAndFailsIsToldSo) {
  ServerConfig config;
  config.ping_interval = 20ms;
  start(config);
  engine_->hold_prefill(true);
  const auto stream = ask("POST", "/v1/chat/completions", kStream);
  EXPECT_TRUE(run_until([&] {
    api_->ping_silent();
    return !stream->body.empty();
  }));
  engine_->lose_device();
  EXPECT_TRUE(run_until([&] { return stream->complete; }));
  EXPECT_EQ(stream->head.status, 200);
  EXPECT_EQ(stream->body.rfind(": ping\n\n", 0), 0u) << stream->body;
  EXPECT_NE(stream->body.find("the device is lost"), std::string::npos) << stream->body;
  EXPECT_NE(stream->body.find("data: [DONE]"), std::string::npos);
}

// The time in the queue begins with the request, not where the engine hears of it.
TEST_F(ApiServerTest, WaitingToBePreparedCountsAsWaiting) {
  ServerConfig config;
  config.prepare_threads = 1;
  config.queue_timeout = 100ms;
  start(config);
  engine_->hold_prepare(true);
  std::vector<std::shared_ptr<RecordedReply>> replies;
  for (const char* body : {kChat, kStream, kChat})
    replies.push_back(ask("POST", "/v1/chat/completions", body));
  api_->end_unserved();
  for (const auto& reply : replies) EXPECT_EQ(reply->head.status, 0) << "in time";
  EXPECT_TRUE(run_until([&] {
    api_->end_unserved();
    return replies[0]->complete && replies[1]->complete && replies[2]->complete;
  }));
  for (const auto& reply : replies) {
    EXPECT_EQ(reply->head.status, 503);
    EXPECT_EQ(header(*reply, "Retry-After"), "1");
    EXPECT_NE(reply->body.find("\"queue_timeout\""), std::string::npos) << reply->body;
  }
  EXPECT_EQ(api_->generations(), 0u);
  engine_->hold_prepare(false);
  EXPECT_NE(ask("GET", "/metrics")->body.find("finished_reason=\"error\"} 3"), std::string::npos);
}

// A request whose client left while it waited costs no more: its picture is not fetched.
TEST_F(ApiServerTest, WhoLeftIsNotParsed) {
  std::atomic<int> fetched = 0;
  ServerConfig config;
  config.image_threads = 1;
  config.fetch_image = [&](const std::string&, const FetchTerms&) {
    ++fetched;
    return std::string("no picture, but enough for this test");
  };
  FakeEngine::Options options;
  options.image_tokens = 4;
  start(config, options);
  const char* picture = R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":)"
                        R"({"url":"https://a.example/b.png"}}]}],"max_tokens":3})";
  engine_->hold_prepare(true);
  const auto first = ask("POST", "/v1/chat/completions", picture);
  EXPECT_TRUE(run_until([&] { return engine_->prepared() == 1; }));
  EXPECT_EQ(fetched, 1);
  const auto left = ask("POST", "/v1/chat/completions", picture);
  left->gone();
  engine_->hold_prepare(false);
  EXPECT_EQ(answer("POST", "/v1/chat/completions", kChat)->head.status, 200);
  EXPECT_EQ(fetched, 1);
}

// A body whose only message has these images.
std::string asking_about(const std::vector<std::string>& urls, const std::string& more = {}) {
  std::string parts;
  for (const std::string& url : urls)
    parts += cat(parts.empty() ? "" : ",", R"({"type":"image_url","image_url":{"url":")", url, R"("}})");
  return cat(R"({"messages":[{"role":"system","content":"hi"},{"role":"user","content":[)", parts, "]}]",
             more, "}");
}

constexpr const char* kImage = "data:;base64,aW1hZ2U=";
constexpr const char* kNoImage = "data:;base64,bm8gaW1hZ2U=";
constexpr const char* kRemote = "https://a.example/b.png";

// However many pictures are being decoded, a text is prepared beside them.
TEST_F(ApiServerTest, PicturesHoldUpNoText) {
  start({}, {.image_tokens = 4});
  engine_->hold_pictures(true);
  std::vector<std::shared_ptr<RecordedReply>> seeing;
  for (int i = 0; i < 8; ++i)
    seeing.push_back(
        ask("POST", "/v1/chat/completions", asking_about({kImage, kImage}, R"(,"max_tokens":2)")));
  EXPECT_EQ(answer("POST", "/v1/chat/completions", kChat)->head.status, 200);
  for (const auto& reply : seeing) EXPECT_FALSE(reply->complete);
  engine_->hold_pictures(false);
  EXPECT_TRUE(run_until([&] {
    return std::all_of(seeing.begin(), seeing.end(), [](const auto& reply) { return reply->complete; });
  }));
  for (const auto& reply : seeing) EXPECT_EQ(reply->head.status, 200) << reply->body;
}

// Nothing is fetched for a request that is refused anyway; what is fetched comes in its place.
TEST_F(ApiServerTest, ImagesAreFetchedLast) {
  std::vector<std::string> fetched;
  ServerConfig config;
  config.image_timeout = 7s;
  config.fetch_image = [&](const std::string& url, const FetchTerms& terms) {
    EXPECT_LE(terms.most_time, 7s);
    EXPECT_GT(terms.most_time, 5s);
    fetched.push_back(url);
    return cat("file ", fetched.size());
  };
  start(config, {.image_tokens = 4});
  for (const char* wrong : {R"(,"temperature":"hot")", R"(,"no_such_field":1)", R"(,"model":"other")"})
    EXPECT_GE(answer("POST", "/v1/chat/completions", asking_about({kRemote}, wrong))->head.status, 400);
  EXPECT_TRUE(fetched.empty());
  EXPECT_EQ(answer("POST", "/v1/chat/completions", asking_about({kRemote, kImage, kRemote}))->head.status,
            200);
  EXPECT_EQ(fetched.size(), 2u);
  EXPECT_EQ(FakeEngine::files_of(engine_->last_request()),
            (std::vector<std::string>{"file 1", "image", "file 2"}));
}

TEST_F(ApiServerTest, NobodyFetchesForWhoLeft) {
  std::atomic<int> begun = 0, stopped = 0;
  ServerConfig config;
  config.fetch_image = [&](const std::string&, const FetchTerms& terms) -> std::string {
    ++begun;
    while (!terms.stopped()) std::this_thread::sleep_for(1ms);
    ++stopped;
    throw Error("stopped");
  };
  start(config, {.image_tokens = 4});
  const auto reply = ask("POST", "/v1/chat/completions", asking_about({kRemote, kRemote}));
  EXPECT_TRUE(run_until([&] { return begun == 1; }));
  reply->gone();
  EXPECT_TRUE(run_until([&] { return stopped == 1; }));
  api_.reset();
  EXPECT_EQ(begun, 1) << "the second is not fetched";
  EXPECT_EQ(reply->head.status, 0);
}

// Whether base64, a host or a decoder is at fault: the field and the code are the same.
TEST_F(ApiServerTest, BadImagesAreToldAlike) {
  ServerConfig config;
  config.fetch_image = [&](const std::string&, const FetchTerms&) -> std::string {
    throw Error("it answered 404");
  };
  start(config, {.image_tokens = 4});
  for (const std::vector<std::string>& urls : {std::vector<std::string>{kNoImage},
                                               {kImage, kImage, kNoImage},
                                               {kImage, kRemote},
                                               {"data:;base64,$"}}) {
    const auto reply = answer("POST", "/v1/chat/completions", asking_about(urls));
    EXPECT_EQ(reply->head.status, 400);
    const Json error = *Json::parse(reply->body, "reply").find("error");
    EXPECT_EQ(error.find("code")->as_string(""), "invalid_image") << reply->body;
    EXPECT_EQ(error.find("param")->as_string(""), "messages[1].content.image_url.url") << reply->body;
  }
}

TEST_F(ApiServerTest, ADeviceLostWhileARequestIsPreparedIsNoFullQueue) {
  ServerConfig config;
  config.prepare_threads = 1;
  start(config);
  engine_->hold_prepare(true);
  const auto preparing = ask("POST", "/v1/chat/completions", kChat);
  EXPECT_TRUE(run_until([&] { return engine_->prepared() == 1; }));
  const auto waiting = ask("POST", "/v1/chat/completions", kChat);
  engine_->lose_device();
  EXPECT_TRUE(run_until([&] { return api_->device_lost(); }));
  engine_->hold_prepare(false);
  EXPECT_TRUE(run_until([&] { return preparing->complete && waiting->complete; }));
  for (const auto& reply : {preparing, waiting}) {
    EXPECT_EQ(reply->head.status, 503);
    EXPECT_NE(reply->body.find("\"device_lost\""), std::string::npos) << reply->body;
  }
}

TEST_F(ApiServerTest, ALostDeviceIsKnownAtOnce) {
  FakeEngine::Options options;
  options.paused = true;
  start({}, options);
  const auto waiting = ask("POST", "/v1/chat/completions", kChat);
  ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 1; }));
  EXPECT_FALSE(api_->device_lost());
  engine_->lose_device();
  ASSERT_TRUE(run_until([&] { return waiting->complete; }));
  EXPECT_EQ(waiting->head.status, 500);
  EXPECT_TRUE(api_->device_lost());
  EXPECT_EQ(ask("GET", "/health")->head.status, 503);
  EXPECT_EQ(ask("GET", "/health")->body, R"({"status":"device_lost"})");
  const auto refused = ask("POST", "/v1/chat/completions", kChat);
  EXPECT_EQ(refused->head.status, 503);
  EXPECT_NE(refused->body.find("\"device_lost\""), std::string::npos);
}

// The second prompt waits for a turn that does not come; the first one's endless reply would go nowhere.
TEST_F(ApiServerTest, OnePromptsFailureEndsTheOthers) {
  ServerConfig config;
  config.queue_timeout = 30ms;
  FakeEngine::Options options;
  options.running = 1;
  options.step = 5ms;
  start(config, options);
  for (const char* stream : {"false", "true"}) {
    const auto reply = answer("POST", "/v1/completions",
                              cat(R"({"prompt":["a","b"],"max_tokens":100000,"stream":)", stream, "}"));
    EXPECT_NE(reply->body.find("\"queue_timeout\""), std::string::npos) << reply->body.substr(0, 500);
    EXPECT_TRUE(run_until([&] { return !engine_->stats().busy; }));
  }
  EXPECT_EQ(engine_->cancelled(), 2);
  EXPECT_EQ(api_->generations(), 0u);
}

TEST_F(ApiServerTest, CutShortTellsTheClient) {
  FakeEngine::Options options;
  options.step = 5ms;
  start({}, options);
  const auto stream =
      ask("POST", "/v1/chat/completions",
          R"({"messages":[{"role":"user","content":"a"}],"max_tokens":100000,"stream":true})");
  ASSERT_TRUE(run_until([&] { return stream->body.find("two") != std::string::npos; }));
  const auto whole = ask("POST", "/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}]})");
  api_->drain();
  api_->cut_short();
  EXPECT_TRUE(run_until([&] { return stream->complete && whole->complete; }));
  EXPECT_NE(stream->body.find("shutting down"), std::string::npos);
  EXPECT_EQ(whole->head.status, 503);
  for (const auto& reply : {stream, whole}) {
    EXPECT_NE(reply->body.find(R"("code":"draining")"), std::string::npos) << reply->body;
  }
  EXPECT_TRUE(run_until([&] { return api_->generations() == 0; }));
}

TEST_F(ApiServerTest, AReplyThatLagsBehindIsDropped) {
  ServerConfig config;
  config.update_queue = 10;
  start(config);
  const auto stream =
      ask("POST", "/v1/chat/completions",
          R"({"messages":[{"role":"user","content":"a"}],"max_tokens":100000,"stream":true})");
  // The I/O thread does nothing while the engine goes on.
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (engine_->stats().steps < 30 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(run_until([&] { return stream->complete; }));
  EXPECT_NE(stream->body.find("in time"), std::string::npos) << stream->body.substr(0, 2000);
  EXPECT_TRUE(run_until([&] { return !engine_->stats().busy; }));
}

TEST_F(ApiServerTest, WatchdogSeesAStall) {
  ServerConfig config;
  const auto pretend_still = [&](std::chrono::seconds still) {
    engine_->pretend([still](EngineStats& stats) {
      stats.busy = true;
      stats.progress_at = std::chrono::steady_clock::now() - still;
    });
    testing::internal::CaptureStderr();
    const bool stalled = api_->stalled();
    return std::pair(stalled, testing::internal::GetCapturedStderr());
  };
  const auto says = [](const std::string& log, const char* text) {
    return log.find(text) != std::string::npos;
  };
  start(config);
  EXPECT_EQ(pretend_still(9s), std::pair(false, std::string()));
  // A long step of a large model: worth a line in the log, once, and no reason to take the server away.
  const auto [slow_stalls, slow_log] = pretend_still(11s);
  EXPECT_FALSE(slow_stalls);
  EXPECT_TRUE(says(slow_log, "warning: the engine has made no progress for 11")) << slow_log;
  EXPECT_TRUE(says(slow_log, "100 blocks")) << slow_log;
  EXPECT_EQ(pretend_still(59s), std::pair(false, std::string()));
  EXPECT_EQ(ask("GET", "/health")->head.status, 200);
  const auto [stalls, log] = pretend_still(61s);
  EXPECT_TRUE(stalls);
  EXPECT_TRUE(says(log, "error: the engine has made no progress for 61")) << log;
  EXPECT_EQ(pretend_still(62s), std::pair(true, std::string()));
  EXPECT_EQ(ask("GET", "/health")->body, R"({"status":"stalled"})");
  engine_->pretend(nullptr);
  EXPECT_FALSE(api_->stalled());
  EXPECT_EQ(ask("GET", "/health")->head.status, 200);
}

}  // namespace
}  // namespace llamita::server
