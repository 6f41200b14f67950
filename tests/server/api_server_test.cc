// The routes over a fake engine, without sockets: who is let in and what is answered.
#include "server/api_server.h"

#include <gtest/gtest.h>

#include "base/cat.h"
#include "server/api_server_support.h"
#include "support/expect_error.h"
#include "support/fake_engine.h"

namespace llamita::server {
namespace {

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
  // A model that takes no images needs no room for the bodies of those that do.
  for (const auto& [check, least] : {std::pair(&check_config, config.http.body_bytes),
                                     std::pair(&check_image_bodies, config.http.image_body_bytes)}) {
    config.http.bodies_bytes = least - 1;
    EXPECT_ERROR(check(config), "--max-bodies-bytes");
    config.http.bodies_bytes = least;
    check(config);
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

TEST_F(ApiServerTest, FullPrepareQueueIs429) {
  ServerConfig config;
  config.prepare_queue = 0;
  start(config);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", kChat)->head.status, 429);
  EXPECT_EQ(ask("POST", "/tokenize", R"({"prompt":"a"})")->head.status, 429);
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
  config.api.images.images = 0;  // the owner wants none
  start(config, {.image_tokens = 64});
  const Json unwilling = Json::parse(answer("GET", "/v1/models")->body, "models");
  EXPECT_FALSE(unwilling.find("data")->as_array("")[0].find("takes_images")->as_bool(""));
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
