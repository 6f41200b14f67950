// The server with the FakeEngine behind it, for checks from outside that need no model:
//   fake_serve PORT [step in microseconds] [what every reply says] [the API key that it asks for]
// PORT 0 takes a free one; the port is printed.
#include <cstdio>
#include <cstdlib>

#include "server/server.h"
#include "support/fake_engine.h"

int main(int argc, char** argv) {
  llamita::server::ServerConfig config;
  config.port = static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  config.version = "test";
  config.http.write_timeout = std::chrono::seconds(2);
  if (argc > 4) config.api_keys = {argv[4]};
  llamita::test::FakeEngine::Options options;
  if (argc > 2) options.step = std::chrono::microseconds(std::atoi(argv[2]));
  llamita::server::Server server(config);
  const auto engine = std::make_shared<llamita::test::FakeEngine>(options);
  if (argc > 3) engine->script(argv[3]);
  server.attach(engine);
  std::printf("port %d\n", server.port());
  std::fflush(stdout);
  return server.run() == llamita::server::Server::Ended::drained ? 0 : 1;
}
