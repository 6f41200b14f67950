// The routes over a fake engine, without sockets: who is let in, what is answered, how requests end.
#include "server/api_server.h"

#include <gtest/gtest.h>

#include "base/cat.h"
#include "support/expect_error.h"
#include "support/fake_engine.h"

namespace llamita::server {
namespace {

using test::FakeEngine;
using namespace std::chrono_literals;

// What a client would have got.
class RecordedReply : public HttpReply {
 public:
  void send(HttpResponse response) override {
    head = std::move(response);
    body = head.body;
    complete = true;
  }
  void begin(HttpResponse response) override { head = std::move(response); }
  void write(std::string_view piece) override { body += piece; }
  void end() override { complete = true; }
  void when_gone(std::function<void()> left) override { gone = std::move(left); }

  HttpResponse head{0, {}, {}};
  std::string body;
  bool complete = false;
  std::function<void()> gone;
};

class ApiServerTest : public testing::Test {
 protected:
  void start(ServerConfig config = {}, FakeEngine::Options options = {}) {
    config.version = "1";
    api_ = std::make_unique<ApiServer>(config, [this](std::function<void()> task) {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    });
    engine_ = std::make_shared<FakeEngine>(options);
    api_->attach(engine_);
  }
  ~ApiServerTest() override {
    if (engine_) engine_->pause(false);
    engine_.reset();
    api_.reset();
  }

  void run_tasks() {
    std::vector<std::function<void()>> tasks;
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(tasks_);
    }
    for (const auto& task : tasks) task();
  }
  // Runs the I/O thread's tasks until `done`, for as long as a slow machine may need.
  template <class Done>
  bool run_until(Done done) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      run_tasks();
      std::this_thread::sleep_for(1ms);
    }
    return true;
  }

  std::shared_ptr<RecordedReply> ask(const std::string& method, const std::string& target,
                                     const std::string& body = {}, const Headers& headers = {}) {
    auto reply = std::make_shared<RecordedReply>();
    api_->handle({method, target, headers, body, true}, reply);
    return reply;
  }
  std::shared_ptr<RecordedReply> answer(const std::string& method, const std::string& target,
                                        const std::string& body = {}, const Headers& headers = {}) {
    auto reply = ask(method, target, body, headers);
    EXPECT_TRUE(run_until([&] { return reply->complete; })) << target << " " << body;
    return reply;
  }

  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<ApiServer> api_;
};

const char* const kChat = R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3})";
const char* const kStream = R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"stream":true})";

std::string header(const RecordedReply& reply, std::string_view name) {
  for (const auto& [key, value] : reply.head.headers) {
    if (key == name) return value;
  }
  return {};
}

TEST_F(ApiServerTest, HealthFollowsTheModel) {
  api_ = std::make_unique<ApiServer>(ServerConfig{}, [](std::function<void()>) {});
  EXPECT_EQ(ask("GET", "/health")->head.status, 503);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", kChat)->head.status, 503);
  EXPECT_EQ(ask("GET", "/metrics")->head.status, 200);
  start();
  EXPECT_EQ(ask("GET", "/health")->body, R"({"status":"ok"})");
  api_->drain();
  EXPECT_EQ(ask("GET", "/health")->body, R"({"status":"draining"})");
  const auto refused = ask("POST", "/v1/chat/completions", kChat);
  EXPECT_EQ(refused->head.status, 503);
  EXPECT_EQ(header(*refused, "Retry-After"), "1");
}

TEST_F(ApiServerTest, ChatWholeAndStreamed) {
  start();
  const auto whole = answer("POST", "/v1/chat/completions", kChat);
  EXPECT_EQ(whole->head.status, 200);
  const Json body = Json::parse(whole->body, "reply");
  const Json& choice = body.find("choices")->as_array("")[0];
  EXPECT_EQ(choice.find("message")->find("content")->as_string(""), "one two three");
  EXPECT_EQ(choice.find("finish_reason")->as_string(""), "length");
  EXPECT_EQ(body.find("usage")->find("completion_tokens")->as_int(""), 3);

  const auto stream = answer("POST", "/v1/chat/completions", kStream);
  EXPECT_EQ(header(*stream, "Content-Type"), "text/event-stream; charset=utf-8");
  std::string text;
  size_t events = 0;
  for (size_t at = 0; at < stream->body.size(); ++events) {
    ASSERT_EQ(stream->body.compare(at, 6, "data: "), 0);
    const size_t end = stream->body.find("\n\n", at);
    const std::string data = stream->body.substr(at + 6, end - at - 6);
    at = end + 2;
    if (data == "[DONE]") {
      EXPECT_EQ(at, stream->body.size());
      break;
    }
    const Json event = Json::parse(data, "event");
    if (const Json* content = event.find("choices")->as_array("")[0].find("delta")->find("content")) {
      text += content->as_string("");
    }
  }
  EXPECT_EQ(text, "one two three");
  EXPECT_EQ(events, 5u);  // role, three words, reason; [DONE] after them
  EXPECT_EQ(api_->generations(), 0u);
}

TEST_F(ApiServerTest, ManyPromptsAndChoices) {
  start();
  const auto reply =
      answer("POST", "/v1/completions", R"({"prompt":["a","b c"],"n":2,"max_tokens":2,"echo":true})");
  const Json body = Json::parse(reply->body, "reply");
  const auto& choices = body.find("choices")->as_array("");
  ASSERT_EQ(choices.size(), 4u);
  EXPECT_EQ(choices[0].find("text")->as_string(""), "aone two");
  EXPECT_EQ(choices[3].find("text")->as_string(""), "b cone1 two1");
  EXPECT_EQ(choices[3].find("index")->as_int(""), 3);
  EXPECT_EQ(body.find("usage")->find("prompt_tokens")->as_int(""), 3);
  EXPECT_EQ(body.find("usage")->find("completion_tokens")->as_int(""), 8);
}

TEST_F(ApiServerTest, ToolsAreFoundInWhatTheModelSays) {
  start();
  engine_->script("Sure. <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>");
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  const auto reply = answer("POST", "/v1/chat/completions",
                            cat(R"({"messages":[{"role":"user","content":"hi"}],)", tools, "}"));
  const Json body = Json::parse(reply->body, "reply");
  const Json& choice = body.find("choices")->as_array("")[0];
  EXPECT_EQ(choice.find("finish_reason")->as_string(""), "tool_calls") << reply->body;
  EXPECT_EQ(choice.find("message")->find("content")->as_string(""), "Sure.");
  EXPECT_NE(engine_->last_request().chat.tools, "");
}

TEST_F(ApiServerTest, ThePriorityReachesTheEngine) {
  start();
  answer("POST", "/v1/completions", R"({"prompt":"a","priority":-7})");
  EXPECT_EQ(engine_->last_priority(), -7);
}

TEST_F(ApiServerTest, ErrorsHaveTheirStatus) {
  ServerConfig config;
  config.model_names = {"served", "alias", "org/name"};
  start(config);
  const auto fails = [&](const std::string& method, const std::string& target, const std::string& body,
                         int status) {
    const auto reply = answer(method, target, body);
    EXPECT_EQ(reply->head.status, status) << target << " " << reply->body;
    const Json json = Json::parse(reply->body, "error");
    for (const char* key : {"message", "type", "param", "code"}) {
      EXPECT_NE(json.find("error")->find(key), nullptr) << reply->body;
    }
    return json.find("error")->find("message")->as_string("");
  };
  fails("GET", "/nothing", "", 404);
  fails("GET", "/v1/chat/completions", "", 405);
  EXPECT_EQ(header(*ask("GET", "/v1/chat/completions"), "Allow"), "POST");
  fails("POST", "/v1/models", "", 405);
  fails("POST", "/v1/chat/completions", "{", 400);
  const std::string unknown = fails("POST", "/v1/chat/completions",
                                    R"({"model":"gpt","messages":[{"role":"user","content":"a"}]})", 404);
  EXPECT_NE(unknown.find("served, alias"), std::string::npos) << unknown;
  fails("GET", "/v1/models/gpt", "", 404);
  for (const char* name : {"alias", "org/name", "org%2Fname", "org%2fname"}) {
    EXPECT_EQ(answer("GET", cat("/v1/models/", name))->head.status, 200) << name;
  }
  for (const char* name : {"org%2", "org%", "org%-2name", "alias%00"})
    fails("GET", cat("/v1/models/", name), "", 404);
  EXPECT_EQ(answer("POST", "/v1/completions", R"({"model":"alias","prompt":"a"})")->head.status, 200);
  fails("POST", "/v1/completions", R"({"prompt":""})", 400);
  fails("POST", "/detokenize", R"({"tokens":[1000]})", 400);
  fails("GET", "/v1/models/", "", 404);
  fails("POST", "/v1/completions", R"({"model":"","prompt":"a"})", 404);
  fails("POST", "/v1/embeddings", R"({"model":"","input":"a"})", 404);
  fails("POST", "/tokenize", R"({"model":"","prompt":"a"})", 404);
  EXPECT_EQ(answer("POST", "/v1/completions", R"({"model":null,"prompt":"a"})")->head.status, 200);
}

// Programs look at `param` and `code`.
TEST_F(ApiServerTest, WhatTheModelCannotServeNamesTheField) {
  FakeEngine::Options options;
  options.context = 4;
  options.takes_tools = false;
  start({}, options);
  const auto fault = [&](const std::string& target, const std::string& body) {
    const auto reply = answer("POST", target, body);
    EXPECT_EQ(reply->head.status, 400) << body;
    const Json json = Json::parse(reply->body, "error");
    const Json& error = *json.find("error");
    const auto text = [&](const char* key) {
      return error.find(key)->is_null() ? "" : error.find(key)->as_string("");
    };
    return cat(text("param"), " ", text("code"));
  };
  const std::string chat = "/v1/chat/completions", completions = "/v1/completions";
  const auto asking = [](const std::string& more) {
    return cat(R"({"messages":[{"role":"user","content":"a"}],)", more, "}");
  };
  EXPECT_EQ(fault(chat, R"({"messages":[{"role":"user","content":"a b c d"}]})"),
            "messages context_length_exceeded");
  EXPECT_EQ(fault(completions, R"({"prompt":"a b c d"})"), "prompt context_length_exceeded");
  EXPECT_EQ(fault("/v1/embeddings", R"({"input":"a b c d"})"), "input context_length_exceeded");
  EXPECT_EQ(fault(completions, R"({"prompt":""})"), "prompt ");
  EXPECT_EQ(fault("/v1/embeddings", R"({"input":""})"), "input ");
  EXPECT_EQ(fault("/v1/embeddings", R"({"input":["a",""]})"), "input ");
  const std::string form = R"({"type":"json_schema","json_schema":{"schema":{"type":"no form"}}})";
  EXPECT_EQ(fault(chat, asking(cat(R"("response_format":)", form))), "response_format ");
  EXPECT_EQ(fault(completions, cat(R"({"prompt":"a","response_format":)", form, "}")), "response_format ");
  EXPECT_EQ(fault(chat, asking(R"("grammar":"no form")")), "grammar ");
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  EXPECT_EQ(fault(chat, asking(tools)), "tools unsupported_parameter");
  EXPECT_EQ(fault(chat, asking(cat(tools, R"(,"tool_choice":"required")"))), "tools unsupported_parameter");
  EXPECT_EQ(answer("POST", chat, asking(cat(tools, R"(,"tool_choice":"none")")))->head.status, 200);
  EXPECT_NE(answer("GET", "/v1/models")->body.find(R"("takes_tools":false)"), std::string::npos);
  EXPECT_EQ(fault(chat, " \n"), " invalid_json");
  EXPECT_EQ(fault(chat, "NaN"), " invalid_json");
}

// The context holds 10 tokens, so prompts up to 9.
TEST_F(ApiServerTest, PromptsHaveARoomLimit) {
  FakeEngine::Options options;
  options.context = 10;
  start({}, options);
  const auto status = [&](int words) {
    std::string prompt = "w";
    for (int i = 1; i < words; ++i) prompt += " w";
    return answer("POST", "/v1/completions", cat(R"({"prompt":")", prompt, R"("})"))->head.status;
  };
  EXPECT_EQ(status(8), 200);
  EXPECT_EQ(status(9), 200);
  EXPECT_EQ(status(10), 400);
}

TEST_F(ApiServerTest, TokensThereAndBack) {
  FakeEngine::Options options;
  options.context = 1024;
  start({}, options);
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt":"a bc"})")->body,
            R"({"tokens":[1,3,5],"count":3,"max_model_len":1024})");
  EXPECT_EQ(answer("POST", "/tokenize", R"({"content":"a bc"})")->body,
            R"({"tokens":[3,5],"count":2,"max_model_len":1024})");
  EXPECT_EQ(answer("POST", "/detokenize", R"({"tokens":[3]})")->body, R"({"prompt":"<3>","content":"<3>"})");
}

TEST_F(ApiServerTest, KeysOpenEveryRouteButHealth) {
  ServerConfig config;
  config.api_keys = {std::string(32, 'a'), std::string(32, 'b')};
  start(config);
  const std::string good = cat("Bearer ", config.api_keys[1]);
  for (const char* path :
       {"/version", "/metrics", "/live", "/openapi.json", "/v1/models", "/v1/models/fake", "/nothing",
        "//health", "/health/", "/HEALTH", "/v1/../health", "/v1/models?x=/health", "/%68ealth"}) {
    EXPECT_EQ(ask("GET", path)->head.status, 401) << path;
    EXPECT_EQ(ask("GET", path, "", {{"authorization", "Bearer " + std::string(32, 'c')}})->head.status, 401)
        << path;
    EXPECT_NE(ask("GET", path, "", {{"authorization", good}})->head.status, 401) << path;
  }
  for (const char* path :
       {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(ask("POST", path, kChat)->head.status, 401) << path;
  }
  EXPECT_EQ(ask("GET", "/health")->head.status, 200);
  EXPECT_EQ(ask("GET", "/")->head.status, 200);
  // Each key has prefixes of its own.
  answer("POST", "/v1/chat/completions", kChat, {{"authorization", good}});
  const std::string salt = engine_->last_salt();
  EXPECT_NE(salt, "");
  EXPECT_EQ(salt.find(config.api_keys[1]), std::string::npos);
  answer("POST", "/v1/chat/completions", kChat, {{"authorization", cat("bearer ", config.api_keys[0])}});
  EXPECT_NE(engine_->last_salt(), salt);
}

TEST_F(ApiServerTest, OtherAddressesNeedLongKeys) {
  ServerConfig config;
  config.address = "0.0.0.0";
  EXPECT_ERROR(check_config(config), "--api-key");
  for (const size_t length : {size_t{32}, size_t{33}}) {
    config.api_keys = {std::string(length, 'k')};
    check_config(config);
  }
  config.api_keys = {std::string(31, 'k')};
  EXPECT_ERROR(check_config(config), "at least 32");
  config.address = "127.0.0.1";
  check_config(config);
}

TEST_F(ApiServerTest, OptionsThatMakeNoSenseAreRefused) {
  for (const char* good : {"127.0.0.1", "0.0.0.0", "localhost", "::1", "::", "fe80::1%eth0"})
    check_address(good);
  for (const char* bad : {"", "foo", "256.0.0.1", "127.0.0.1:80", "[::1]", "http://127.0.0.1"}) {
    EXPECT_ERROR(check_address(bad), "is no IP address");
  }
  for (const char* good :
       {"*", "http://localhost", "https://a.example:8443", "http://[::1]:3000", "app://page"}) {
    check_origin(good);
  }
  for (const char* bad : {"", "foo", "http://", "://a", "http://a/", "http://a:", "http://a:b",
                          "http://A.example", "http://a b", "http://:80", "**"}) {
    EXPECT_ERROR(check_origin(bad), "--cors-origin");
  }
  for (const char* good : {"vllm", "llamita", "_a:b9"}) check_metrics_prefix(good);
  for (const char* bad : {"", "9x", "9 x", "a b", "a-b", "a\n"}) {
    EXPECT_ERROR(check_metrics_prefix(bad), "--metrics-prefix");
  }
  ServerConfig config;
  config.address = "foo";
  EXPECT_ERROR(check_config(config), "is no IP address");
  config = {};
  for (const size_t bytes : {config.http.image_body_bytes - 1, config.http.image_body_bytes}) {
    config.http.bodies_bytes = bytes;
    if (bytes == config.http.image_body_bytes) {
      check_config(config);
    } else {
      EXPECT_ERROR(check_config(config), "--max-bodies-bytes");
    }
  }
}

TEST_F(ApiServerTest, ForeignPagesAreKeptOut) {
  start();
  const Headers own = {{"host", "localhost:8000"}, {"origin", "http://localhost:8000"}};
  const Headers foreign = {{"host", "localhost:8000"}, {"origin", "http://evil.example"}};
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt":"a"})", own)->head.status, 200);
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt":"a"})", foreign)->head.status, 403);
  EXPECT_EQ(ask("GET", "/health", "", {{"host", "evil.example:8000"}})->head.status, 403);
  EXPECT_EQ(ask("GET", "/health", "", {{"host", "127.0.0.1:8000"}})->head.status, 200);
  EXPECT_EQ(ask("GET", "/health", "", {{"host", "[::1]:8000"}})->head.status, 200);
  const auto read = ask("GET", "/health", "", foreign);
  EXPECT_EQ(header(*read, "Access-Control-Allow-Origin"), "");
  const auto refused = ask("OPTIONS", "/v1/chat/completions", "", foreign);
  EXPECT_EQ(refused->head.status, 403);
  EXPECT_NE(refused->body.find("--cors-origin"), std::string::npos);

  ServerConfig config;
  config.cors_origins = {"http://friend.example"};
  engine_.reset();
  api_.reset();
  start(config);
  const Headers friendly = {{"host", "localhost:8000"}, {"origin", "http://friend.example"}};
  const auto preflight = ask("OPTIONS", "/v1/chat/completions", "", friendly);
  EXPECT_EQ(preflight->head.status, 204);
  EXPECT_EQ(header(*preflight, "Access-Control-Allow-Origin"), "http://friend.example");
  Headers of_openai = friendly;
  of_openai.emplace_back("access-control-request-headers", "authorization,content-type,x-stainless-lang");
  EXPECT_EQ(header(*ask("OPTIONS", "/v1/chat/completions", "", of_openai), "Access-Control-Allow-Headers"),
            "authorization,content-type,x-stainless-lang");
  const auto reply = answer("POST", "/v1/chat/completions", kStream, friendly);
  EXPECT_EQ(header(*reply, "Access-Control-Allow-Origin"), "http://friend.example");
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt":"a"})", foreign)->head.status, 403);
}

TEST_F(ApiServerTest, FullQueueIs429) {
  FakeEngine::Options options;
  options.queue = 2;
  options.paused = true;
  start({}, options);
  const auto first = ask("POST", "/v1/chat/completions", kChat);
  const auto second = ask("POST", "/v1/chat/completions", kChat);
  ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 2; }));
  const auto third = answer("POST", "/v1/chat/completions", kChat);
  EXPECT_EQ(third->head.status, 429);
  EXPECT_EQ(header(*third, "Retry-After"), "1");
  engine_->pause(false);
  EXPECT_TRUE(run_until([&] { return first->complete && second->complete; }));
  EXPECT_EQ(second->head.status, 200);
}

// All of a request's prompts are queued, or none. An empty queue takes more than it has places for.
TEST_F(ApiServerTest, PromptsAreQueuedTogether) {
  FakeEngine::Options options;
  options.queue = 2;
  options.running = 1;
  start({}, options);
  const std::string five = R"({"prompt":["a","b","c","d","e"],"max_tokens":2})";
  EXPECT_EQ(answer("POST", "/v1/completions", five)->head.status, 200);
  EXPECT_EQ(answer("POST", "/v1/embeddings", R"({"input":["a","b","c","d","e"]})")->head.status, 200);
  engine_->pause(true);
  const auto waiting = ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":2})");
  ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 1; }));
  const auto refused = answer("POST", "/v1/completions", five);
  EXPECT_EQ(refused->head.status, 429);
  EXPECT_EQ(engine_->stats().waiting, 1);
  engine_->pause(false);
  EXPECT_TRUE(run_until([&] { return waiting->complete; }));
}

TEST_F(ApiServerTest, AFullQueueIsFoundBeforeAnyWork) {
  FakeEngine::Options options;
  options.queue = 1;
  options.paused = true;
  start({}, options);
  const auto first = ask("POST", "/v1/chat/completions", kChat);
  ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 1; }));
  const int prepared = engine_->prepared();
  const auto refused = ask("POST", "/v1/chat/completions", kChat);
  EXPECT_EQ(refused->head.status, 429) << "at once, on the I/O thread";
  EXPECT_NE(refused->body.find("queue_full"), std::string::npos);
  EXPECT_EQ(engine_->prepared(), prepared);
  engine_->pause(false);
  EXPECT_TRUE(run_until([&] { return first->complete; }));
}

TEST_F(ApiServerTest, TextsOfTokensAreBounded) {
  ServerConfig config;
  config.api.token_text_bytes = 8;
  config.api.token_ids = 4;
  start(config);
  const auto status = [&](const std::string& route, const std::string& body) {
    return answer("POST", route, body)->head.status;
  };
  EXPECT_EQ(status("/tokenize", R"({"prompt":"12345678"})"), 200);
  EXPECT_EQ(status("/tokenize", R"({"prompt":"123456789"})"), 400);
  EXPECT_EQ(status("/tokenize", R"({"content":"123456789"})"), 400);
  EXPECT_EQ(status("/detokenize", R"({"tokens":[1,2]})"), 200) << "<1><2>";
  EXPECT_EQ(status("/detokenize", R"({"tokens":[1,2,3]})"), 400);
  EXPECT_EQ(status("/detokenize", R"({"tokens":[1,2,3,4,5]})"), 400);
}

TEST_F(ApiServerTest, NoChatWaitsForTokenize) {
  ServerConfig config;
  config.prepare_threads = 2;
  start(config);
  engine_->hold_tokenize(true);
  std::vector<std::shared_ptr<RecordedReply>> held;
  for (int i = 0; i < 4; ++i) held.push_back(ask("POST", "/tokenize", R"({"prompt":"a"})"));
  EXPECT_EQ(answer("POST", "/v1/chat/completions", kChat)->head.status, 200);
  EXPECT_FALSE(held[0]->complete);
  engine_->hold_tokenize(false);
  EXPECT_TRUE(run_until([&] { return held[3]->complete; }));
}

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
    }
  }
  const auto hopeless = std::make_shared<ThrowingReply>(1000);
  api_->handle({"POST", "/v1/chat/completions", {}, kStream, true}, hopeless);
  EXPECT_TRUE(run_until([&] { return api_->generations() == 0; }));
  EXPECT_EQ(answer("POST", "/v1/chat/completions", kChat)->head.status, 200);
}

TEST_F(ApiServerTest, FullPrepareQueueIs429) {
  ServerConfig config;
  config.prepare_queue = 0;
  start(config);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", kChat)->head.status, 429);
  EXPECT_EQ(ask("POST", "/tokenize", R"({"prompt":"a"})")->head.status, 429);
  EXPECT_EQ(api_->generations(), 0u);
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

// Proxies take a connection for dead that is silent for long: a stream that waits says so in comments. Before that
// its status is open, and a reply that comes whole says nothing before it is there.
TEST_F(ApiServerTest, StreamsThatWaitArePinged) {
  ServerConfig config;
  config.ping_interval = 20ms;
  FakeEngine::Options options;
  options.paused = true;
  start(config, options);
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
  engine_->pause(false);
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
    FakeEngine::Options options;
    options.paused = true;
    start(config, options);
    const auto stream = ask("POST", "/v1/chat/completions", kStream);
    ASSERT_TRUE(run_until([&] { return engine_->stats().waiting == 1; }));
    const auto end = std::chrono::steady_clock::now() + 100ms;
    EXPECT_TRUE(run_until([&] {
      api_->ping_silent();
      return std::chrono::steady_clock::now() > end;
    }));
    EXPECT_EQ(stream->head.status, 0);
    engine_->pause(false);
    ASSERT_TRUE(run_until([&] { return stream->complete; }));
    EXPECT_EQ(stream->body.find("ping"), std::string::npos);
    api_.reset();
  }
}

// Once a ping is sent it is too late for a status; the error comes as an event.
TEST_F(ApiServerTest, AStreamThatWasPingedAndIsNotServedIsToldSo) {
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
  EXPECT_EQ(stream->head.status, 200);
  EXPECT_EQ(stream->body.rfind(": ping\n\n", 0), 0u) << stream->body;
  EXPECT_NE(stream->body.find("\"queue_timeout\""), std::string::npos) << stream->body;
  EXPECT_NE(stream->body.find("data: [DONE]"), std::string::npos);
  endless->gone();
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

TEST_F(ApiServerTest, RepliesHaveAMostTokensLimit) {
  FakeEngine::Options options;
  options.context = 50;
  for (const int limit : {0, 20, 60}) {  // of the flag; the context holds in any case
    ServerConfig config;
    config.api.reply_tokens = limit;
    start(config, options);
    const int most = limit == 20 ? 20 : 50;
    for (const char* name : {"max_tokens", "max_completion_tokens"}) {
      const auto status = [&](int tokens) {
        return answer("POST", "/v1/chat/completions",
                      cat(R"({"messages":[{"role":"user","content":"a"}],")", name, "\":", tokens, "}"))
            ->head.status;
      };
      EXPECT_EQ(status(most - 1), 200);
      EXPECT_EQ(status(most), 200);
      EXPECT_EQ(status(most + 1), 400);
    }
    answer("POST", "/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}]})");
    EXPECT_EQ(engine_->last_request().sampling.max_tokens, limit > 0 ? limit : -1)
        << "who asks for no number";
    api_.reset();
  }
}

TEST_F(ApiServerTest, TheDocumentIsServed) {
  start();
  const auto reply = ask("GET", "/openapi.json");
  EXPECT_EQ(reply->head.status, 200);
  EXPECT_EQ(header(*reply, "Content-Type"), "application/json");
  EXPECT_NE(reply->body.find(R"("enum":[null,"fake"])"), std::string::npos);
  EXPECT_NE(reply->body.find(R"("maximum":999)"), std::string::npos);  // the last token
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

TEST_F(ApiServerTest, ModelsSayWhichImagesTheyTake) {
  ServerConfig config;
  config.api.images = {3, 1000};
  start(config, {.image_tokens = 64});
  const auto model = [&] { return Json::parse(ask("GET", "/v1/models")->body, "models"); };
  const Json seeing = model().find("data")->as_array("")[0];
  EXPECT_TRUE(seeing.find("takes_images")->as_bool(""));
  EXPECT_EQ(seeing.find("max_images")->as_int(""), 3);
  EXPECT_EQ(seeing.find("max_image_bytes")->as_int(""), 1000);
  start(config);
  const Json blind = model().find("data")->as_array("")[0];
  EXPECT_FALSE(blind.find("takes_images")->as_bool(""));
  EXPECT_EQ(blind.find("max_images")->as_int(""), 0);
}

TEST_F(ApiServerTest, MetricsCountRequests) {
  start();
  answer("POST", "/v1/chat/completions", kChat);
  const std::string text = ask("GET", "/metrics")->body;
  for (const char* line : {
           "vllm:num_requests_running{model_name=\"fake\",engine=\"0\"} 0\n",
           "vllm:request_success_total{model_name=\"fake\",engine=\"0\",finished_reason=\"length\"} 1\n",
           "vllm:time_to_first_token_seconds_count{model_name=\"fake\",engine=\"0\"} 1\n",
           "vllm:inter_token_latency_seconds_count{model_name=\"fake\",engine=\"0\"} 2\n",
           "vllm:e2e_request_latency_seconds_bucket{model_name=\"fake\",engine=\"0\",le=\"+Inf\"} 1\n",
           "llamita_http_replies_total{route=\"/v1/chat/completions\",status=\"200\"} 1\n",
       }) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

TEST_F(ApiServerTest, ThePageIsStrict) {
  start();
  const auto page = ask("GET", "/");
  EXPECT_EQ(header(*page, "Content-Type"), "text/html; charset=utf-8");
  const std::string policy = header(*page, "Content-Security-Policy");
  EXPECT_NE(policy.find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(ask("GET", "/", "", {{"if-none-match", header(*page, "ETag")}})->head.status, 304);
}

}  // namespace
}  // namespace llamita::server
