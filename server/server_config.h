// How the server listens, whom it lets in and what a request may cost. Members are flags of `llamita serve`,
// but for `version`, `prepare_queue`, which follows --max-queue, `fetch_image`, which --image-host makes, and
// ApiLimits::body_values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/api/generation_request.h"
#include "server/http/limits.h"

namespace llamita::server {

struct ServerConfig {
  std::string address = "127.0.0.1";
  uint16_t port = 8000;  // 0: a free one
  HttpLimits http;
  ApiLimits api;

  // The first is the served name; the others are taken too. Empty: the model's own name.
  std::vector<std::string> model_names;
  std::vector<std::string> api_keys;      // empty: everybody is let in
  std::vector<std::string> cors_origins;  // whose pages may call this server; "*": all
  bool lenient = false;                   // unknown fields are ignored with a warning in the log
  std::optional<ToolFormat> tool_format;  // what calls of tools look like; default: the family's
  FetchImage fetch_image;                 // how images behind https: URLs are got; empty: they are refused
  std::string metrics_prefix = "vllm";
  std::string version;

  int prepare_threads = 2;
  int image_threads = 2;                               // that fetch and decode images
  size_t prepare_queue = 256;                          // requests that wait to be tokenised
  size_t update_queue = 4096;                          // steps that a request's reply may lag behind
  std::chrono::milliseconds image_timeout{20'000};     // for all images that a request has fetched
  std::chrono::milliseconds queue_timeout{60'000};     // then a request that no step had part of is told 503
  std::chrono::milliseconds request_timeout{600'000};  // then a reply ends where it is
  std::chrono::milliseconds ping_interval{15'000};     // a stream silent for so long gets a comment; 0: never
  std::chrono::milliseconds drain_timeout{30'000};     // after SIGTERM
  std::chrono::milliseconds stall_warning{10'000};     // a step longer than this is written to the log
  std::chrono::milliseconds stall_timeout{60'000};     // … and than this makes /health say 503
  bool exit_on_stall = false;                          // and then ends run() with Ended::stalled
};

inline constexpr size_t kLeastKeyBytes = 32;

// All throw Error. An address is an IP address or localhost; an origin is * or SCHEME://HOST[:PORT], as
// browsers send it; the prefix begins the names of metrics.
void check_address(const std::string& address);
void check_origin(const std::string& origin);
void check_metrics_prefix(const std::string& prefix);
// Each of these, and that addresses other than loopback have API keys, each of `kLeastKeyBytes`.
void check_config(const ServerConfig& config);
// That bodies with images fit; of a model that takes some.
void check_image_bodies(const ServerConfig& config);

}  // namespace llamita::server
