// llamita serve: a model for many users at once, behind OpenAI's API and a chat page.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <thread>

#include "base/cat.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/fetch_image.h"
#include "cli/numbers.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resolve_model.h"
#include "llamita/async_engine.h"
#include "server/server.h"

namespace llamita::cli {

namespace {

using server::Server;
using server::ServerConfig;

constexpr int kExitAborted = 130, kExitStalled = 71, kExitDeviceLost = 70;
constexpr int64_t kMostBytes = int64_t{1} << 40, kMostCount = 1'000'000;

class Serve : public Subcommand {
 public:
  std::string name() const override { return "serve"; }
  std::string summary() const override {
    return "answer many users over HTTP, with OpenAI's API and a chat page";
  }
  std::string usage() const override { return "llamita serve [MODEL] [options]"; }
  std::string examples() const override {
    return "Open http://127.0.0.1:8000 in a browser, or point an OpenAI client at http://127.0.0.1:8000/v1.\n"
           "SIGTERM or Ctrl-C finishes what is under way and ends; a second one ends at once.\n"
           "\nExamples:\n"
           "  llamita serve                                     the small default model\n"
           "  llamita serve Qwen/Qwen2.5-3B-Instruct -c 8k --kv-memory 4000\n"
           "  llamita serve model.gguf --address 0.0.0.0 --api-key-file keys.txt\n"
           "  curl http://127.0.0.1:8000/v1/chat/completions \\\n"
           "    -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'\n";
  }

  void declare(OptionSet& options) override {
    options.positional("MODEL", false,
                       cat("folder, .gguf file, repository or known name (default ", kDefaultModel, ")"),
                       [this](const std::string& text) { model_ = text; });
    declare_network(options);
    declare_api(options);
    declare_limits(options);
    declare_engine(options, engine_);
    declare_packed_cache(options, engine_);
    declare_pinning(options, engine_);
    declare_batching(options);
  }

  int run() override;

 private:
  using Milliseconds = std::chrono::milliseconds;

  template <class Number>
  void number(OptionSet& options, const std::string& flag, const std::string& help, Number& target,
              int64_t low, int64_t high) {
    options.value(flag, "N", cat(help, " (default ", target, ")"),
                  [&target, flag, low, high](const std::string& text) {
                    target = static_cast<Number>(parse_int(text, flag, low, high));
                  });
  }
  void seconds(OptionSet& options, const std::string& flag, const std::string& help, Milliseconds& target,
               float least = 0.01f) {
    options.value(flag, "S", cat(help, " (default ", target.count() / 1000, ")"),
                  [&target, flag, least](const std::string& text) {
                    target = Milliseconds(static_cast<int64_t>(parse_float(text, flag, least, 1e7f) * 1000));
                  });
  }

  void declare_network(OptionSet& options);
  void declare_api(OptionSet& options);
  void declare_limits(OptionSet& options);
  void declare_batching(OptionSet& options);
  void read_keys(const std::string& path);
  void announce(const Server& server) const;

  std::string model_;
  ServerConfig config_;
  EngineConfig engine_;
  int64_t kv_megabytes_ = 0;
  std::vector<std::string> image_hosts_;
};

void Serve::declare_network(OptionSet& options) {
  options.group("Where it listens");
  options.value("--address,--host", "IP",
                "address to listen on; others than 127.0.0.1 need API keys (default 127.0.0.1)",
                [this](const std::string& text) {
                  server::check_address(text);
                  config_.address = text;
                });
  number(options, "-p,--port", "port; 0 takes a free one", config_.port, 0, 65535);
  options.repeated("--api-key", "KEY", "let in who sends this key; may be given several times",
                   [this](const std::string& text) { config_.api_keys.push_back(text); });
  options.value("--api-key-file", "FILE",
                "the same for each line of a file, which other users cannot see in ps",
                [this](const std::string& text) { read_keys(text); });
  options.repeated("--cors-origin", "URL",
                   "let pages of this origin call the server; * for all (default: none)",
                   [this](const std::string& text) {
                     server::check_origin(text);
                     config_.cors_origins.push_back(text);
                   });
}

void Serve::declare_api(OptionSet& options) {
  options.group("The API");
  options.repeated("--served-model-name", "NAME",
                   "what clients call the model; the first is shown, more are aliases",
                   [this](const std::string& text) {
                     if (text.empty()) throw Error("--served-model-name: expected a name, got ''");
                     config_.model_names.push_back(text);
                   });
  options.flag("--lenient", "ignore fields of requests that the server does not know, with a warning",
               config_.lenient);
  options.repeated("--image-host", "NAME",
                   "fetch images of https: URLs from this host; may be given several times (default: only "
                   "images inside requests)",
                   [this](const std::string& text) { image_hosts_.push_back(text); });
  seconds(options, "--image-timeout", "seconds for all images that a request has fetched",
          config_.image_timeout);
  options.value("--tool-format", "NAME",
                "what the model's tool calls look like: hermes or llama3 (default: its family's)",
                [this](const std::string& text) {
                  if (text != "hermes" && text != "llama3") {
                    throw Error(cat("--tool-format: expected hermes or llama3, got '", text, "'"));
                  }
                  config_.tool_format = text == "llama3" ? ToolFormat::llama3 : ToolFormat::hermes;
                });
  options.value("--metrics-prefix", "NAME", "what the names at /metrics begin with (default vllm)",
                [this](const std::string& text) {
                  server::check_metrics_prefix(text);
                  config_.metrics_prefix = text;
                });
}

void Serve::declare_limits(OptionSet& options) {
  server::HttpLimits& http = config_.http;
  server::ApiLimits& api = config_.api;
  options.group("Limits");
  number(options, "--max-connections", "open connections; one more is told 503", http.connections, 1,
         kMostCount);
  number(options, "--max-header-bytes", "of a request's header", http.header_bytes, 256, 1 << 24);
  number(options, "--max-header-lines", "of a request's header", http.header_lines, 1, 10'000);
  options.value("--max-body-bytes", "N",
                cat("of a request's body (default ", http.body_bytes, "; ", http.image_body_bytes,
                    " where the model takes images)"),
                [&http](const std::string& text) {
                  http.body_bytes = static_cast<size_t>(parse_int(text, "--max-body-bytes", 1, kMostBytes));
                  http.image_body_bytes = http.body_bytes;
                });
  number(options, "--max-bodies-bytes",
         "of all bodies that arrive or wait to be parsed, their images to be decoded; more are told 503",
         http.bodies_bytes, 1, kMostBytes);
  number(options, "--max-json-depth", "of nested arrays and objects in a body", api.body_depth, 4, 64);
  number(options, "--max-n", "choices of one request", api.choices, 1, 128);
  number(options, "--max-logprobs", "most probable tokens shown beside each", api.logprobs, 0, 20);
  options.value("--max-reply-tokens", "N", "of a reply that a request may ask for (default: the context)",
                [&api](const std::string& text) {
                  api.reply_tokens = static_cast<int>(parse_int(text, "--max-reply-tokens", 1, INT32_MAX));
                });
  number(options, "--max-prompts", "prompts of one completion or embedding request", api.prompts, 1, 4096);
  number(options, "--max-stops", "stop strings of a request", api.stops, 1, 64);
  number(options, "--max-stop-bytes", "of a stop string", api.stop_bytes, 1, 1024);
  number(options, "--max-schema-bytes", "of a JSON schema or grammar", api.schema_bytes, 1, 64 << 10);
  number(options, "--max-token-text-bytes", "of text that /tokenize takes and /detokenize gives",
         api.token_text_bytes, 1, 64 << 20);
  number(options, "--max-token-ids", "of a body of /detokenize", api.token_ids, 1, 1 << 20);
  number(options, "--max-tools", "tools of a request", api.tools, 1, 4096);
  number(options, "--max-images", "images of a request", api.images.images, 0, 64);
  number(options, "--max-image-bytes", "of an image's file", api.images.bytes, 1, 16 << 20);
  number(options, "--max-image-pixels", "of an image", engine_.image_pixels, 1, 1 << 24);
  number(options, "--max-image-side", "pixels of an image's width and height", engine_.image_side, 1,
         1 << 14);
  number(options, "--max-template-bytes", "of a model's chat template; a longer one is not used",
         engine_.template_bytes, 0, 1 << 20);
  number(options, "--max-schema-work", "bytes of schemas looked at while one is compiled",
         engine_.schema_work, 1024, 8 << 20);
  seconds(options, "--header-timeout", "seconds for a request's header", http.header_timeout);
  seconds(options, "--body-timeout", "seconds for a request's body", http.body_timeout);
  seconds(options, "--idle-timeout", "seconds until an idle connection is closed", http.idle_timeout);
  seconds(options, "--write-timeout", "seconds until a reader that takes nothing is dropped",
          http.write_timeout);
  number(options, "--max-unread-bytes", "of a stream; a reader that lags behind more is dropped",
         http.write_queue_bytes, 1024, kMostBytes);
  number(options, "--send-buffer-bytes", "of the kernel for each connection; 0: as it likes",
         http.send_buffer_bytes, 0, 1 << 30);
  number(options, "--max-unsent-steps", "of a stream that wait for the network thread", config_.update_queue,
         16, kMostCount);
  seconds(options, "--queue-timeout", "seconds until a request that waits for its turn is told 503",
          config_.queue_timeout);
  seconds(options, "--request-timeout", "seconds until a reply ends where it is", config_.request_timeout);
  seconds(options, "--ping-interval", "seconds until a silent stream gets a comment; 0: never",
          config_.ping_interval, 0);
  seconds(options, "--drain-timeout", "seconds that SIGTERM leaves to what is under way",
          config_.drain_timeout);
  seconds(options, "--stall-warning", "seconds without progress until the log says so",
          config_.stall_warning);
  seconds(options, "--stall-timeout", "seconds without progress until /health says 503",
          config_.stall_timeout);
  options.flag("--exit-on-stall", "and then end with exit code 71", config_.exit_on_stall);
}

void Serve::declare_batching(OptionSet& options) {
  options.group("Many users at once");
  number(options, "--max-batch-tokens",
         "tokens of one step; longer prompts take several; 0 means 512, on a GPU 2048", engine_.batch_tokens,
         0, 1 << 20);
  number(options, "--max-batch-sequences", "sequences of one step", engine_.batch_sequences, 1, 4096);
  number(options, "--max-queue", "requests that wait; one more is told 429", engine_.queue_requests, 1,
         kMostCount);
  options.value("--max-queue-tokens", "N",
                "of prompts that wait; more are told 429 (default: four times what the KV cache holds)",
                [this](const std::string& text) {
                  engine_.queue_tokens = parse_int(text, "--max-queue-tokens", 1, int64_t{1} << 40);
                });
  options.value(
      "--kv-memory", "MB",
      "memory for keys and values (default: for all sequences of a step, up to a quarter of what is free, on "
      "a GPU nine tenths)",
      [this](const std::string& text) { kv_megabytes_ = parse_int(text, "--kv-memory", 1, 1 << 30); });
  number(options, "--prepare-threads", "threads that tokenise and compile grammars", config_.prepare_threads,
         1, 64);
  number(options, "--image-threads", "threads that fetch and decode images", config_.image_threads, 1, 64);
}

void Serve::read_keys(const std::string& path) {
  const std::string text = read_file(path);
  const size_t before = config_.api_keys.size();
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string key = text.substr(begin, end - begin);
    while (!key.empty() && (key.back() == '\r' || key.back() == ' ')) key.pop_back();
    if (!key.empty()) config_.api_keys.push_back(std::move(key));
    begin = end + 1;
  }
  if (config_.api_keys.size() == before) {
    throw Error(cat("--api-key-file: ", path, " holds no key; one a line is expected"));
  }
}

void Serve::announce(const Server& server) const {
  const std::string host =
      config_.address.find(':') == std::string::npos ? config_.address : cat("[", config_.address, "]");
  std::fputs(cat("llamita: listening on http://", host, ":", server.port(), "\n").c_str(), stderr);
}

int Serve::run() {
  // An operator wants to know when the server is ready and how it ends; LLAMITA_LOG has the last word.
  if (std::getenv("LLAMITA_LOG") == nullptr) set_log_level(LogLevel::info);
  server::check_config(config_);  // before what may take long
  config_.version = LLAMITA_VERSION;
  config_.fetch_image = fetch_from_hosts(image_hosts_);
  engine_.kv_bytes = kv_megabytes_ * 1'000'000;
  config_.prepare_queue = static_cast<size_t>(engine_.queue_requests);
  if (config_.model_names.empty()) {
    config_.model_names = {std::filesystem::path(display_name(model_)).stem().string()};
    if (display_name(model_).find('/') != std::string::npos) config_.model_names = {display_name(model_)};
  }
  const std::string path = resolve_model(model_);
  Server server(config_);
  announce(server);
  std::exception_ptr failure;
  std::atomic<bool> loaded = false;
  // Meanwhile /health says that the model is loading.
  std::thread loading([&] {
    try {
      Progress progress(cat("loading ", std::filesystem::path(path).filename().string()));
      std::shared_ptr<AsyncEngine> engine = AsyncEngine::load(
          path, engine_, [&](int64_t done, int64_t total) { progress.update(done, total); });
      server.attach(engine);
      const EngineStats stats = engine->stats();
      log_info("ready: ", engine->info().name, ", context ", engine->info().context, "; keys and values of ",
               int64_t{stats.blocks} * stats.block_tokens, " tokens in ",
               human_bytes(static_cast<double>(engine->info().kv_bytes)));
      loaded = true;
    } catch (...) {
      failure = std::current_exception();
      loaded = true;
      server.stop();
    }
  });
  const Server::Ended ended = server.run();
  // These wait for no thread, and not for a device that does not answer.
  if (ended == Server::Ended::aborted) std::_Exit(kExitAborted);
  if (ended == Server::Ended::stalled) std::_Exit(kExitStalled);
  if (ended == Server::Ended::device_lost) std::_Exit(kExitDeviceLost);
  if (!loaded) std::_Exit(0);  // nothing was under way; the loading cannot be called off and may take minutes
  loading.join();
  if (failure) std::rethrow_exception(failure);
  return 0;
}

}  // namespace

std::unique_ptr<Subcommand> make_serve() { return std::make_unique<Serve>(); }

}  // namespace llamita::cli
