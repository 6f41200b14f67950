// The server with the FakeEngine behind it, for checks from outside that need no model:
//   fake_serve PORT [step in microseconds] [what every reply says] [the API key that it asks for]
// PORT 0 takes a free one; the port is printed. FAKE_SERVE_LOG=FILE: what the engine is asked for, a line of
// JSON each.
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "formats/json.h"
#include "server/server.h"
#include "support/fake_engine.h"

namespace {

using llamita::Json;

Json described(const llamita::Request& request) {
  Json::Array messages;
  if (const auto* conversation = std::get_if<llamita::Conversation>(&request.prompt)) {
    for (const llamita::Message& message : *conversation) {
      messages.push_back(Json(Json::Array{Json(message.role), Json(message.content)}));
    }
  }
  const llamita::SamplingParams& params = request.sampling;
  return Json(Json::Object{{"messages", Json(std::move(messages))},
                           {"temperature", Json(double{params.temperature})},
                           {"top_p", Json(double{params.top_p})},
                           {"top_k", Json(int64_t{params.top_k})},
                           {"min_p", Json(double{params.min_p})},
                           {"repetition_penalty", Json(double{params.repetition_penalty})},
                           {"max_tokens", Json(int64_t{params.max_tokens})},
                           {"logprobs", Json(int64_t{params.logprobs})},
                           {"seed", params.seed ? Json(static_cast<int64_t>(*params.seed)) : Json()}});
}

class TellingEngine : public llamita::test::FakeEngine {
 public:
  using FakeEngine::FakeEngine;
  std::shared_ptr<const llamita::PreparedRequest> prepare(const llamita::Request& request) const override {
    if (const char* path = std::getenv("FAKE_SERVE_LOG")) {
      std::ofstream(path, std::ios::app) << described(request).dump() << std::endl;
    }
    return FakeEngine::prepare(request);
  }
};

}  // namespace

int main(int argc, char** argv) {
  llamita::server::ServerConfig config;
  config.port = static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  config.version = "test";
  config.http.write_timeout = std::chrono::seconds(2);
  config.ping_interval = std::chrono::milliseconds(100);  // so that slow steps have pings between them
  if (argc > 4) config.api_keys = {argv[4]};
  llamita::test::FakeEngine::Options options;
  if (argc > 2) options.step = std::chrono::microseconds(std::atoi(argv[2]));
  llamita::server::Server server(config);
  const auto engine = std::make_shared<TellingEngine>(options);
  if (argc > 3) engine->script(argv[3]);
  // What a fake engine has none of, for the page's panel: each number another one, while a request runs.
  engine->pretend([](llamita::EngineStats& stats) {
    if (stats.running == 0) return;
    stats.waiting += 2;
    stats.blocks_used = 40;
    stats.blocks_shared = 3;
    stats.step_prefill_tokens = 17;
    stats.prefix_query_tokens = 50;
    stats.prefix_hit_tokens = 30;
  });
  server.attach(engine);
  std::printf("port %d\n", server.port());
  std::fflush(stdout);
  return server.run() == llamita::server::Server::Ended::drained ? 0 : 1;
}
