#include "server/server_config.h"

#include <arpa/inet.h>

#include "base/cat.h"
#include "formats/printable.h"
#include "llamita/error.h"
#include "server/access.h"

namespace llamita::server {

namespace {

constexpr const char* kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr const char* kDigits = "0123456789";

bool consists_of(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

bool is_port(std::string_view text) { return consists_of(text, kDigits) && text.size() <= 5; }

// HOST[:PORT], HOST also as [IPv6].
bool is_host(std::string_view text) {
  const size_t name_end = text.front() == '[' ? text.find(']') : 0;
  if (name_end == std::string_view::npos) return false;
  const size_t colon = text.find(':', name_end);
  const std::string_view name = text.substr(0, colon);
  if (colon != std::string_view::npos && !is_port(text.substr(colon + 1))) return false;
  return consists_of(name, cat(kLower, kDigits, ".-_[:]"));
}

void check_bodies(const HttpLimits& limits, size_t largest, const char* why) {
  if (limits.bodies_bytes >= largest) return;
  throw Error(cat("--max-bodies-bytes: ", limits.bodies_bytes, " leave no room for one body of ", largest,
                  " (--max-body-bytes)", why));
}

}  // namespace

void check_address(const std::string& address) {
  in_addr four;
  in6_addr six;
  const std::string without_zone = address.substr(0, address.find('%'));
  if (address == "localhost" || ::inet_pton(AF_INET, address.c_str(), &four) == 1 ||
      ::inet_pton(AF_INET6, without_zone.c_str(), &six) == 1) {
    return;
  }
  throw Error(cat("--address: ", printable(address),
                  " is no IP address to listen on; 127.0.0.1, 0.0.0.0 or ::1, say"));
}

// As browsers send them, because they are compared byte by byte.
void check_origin(const std::string& origin) {
  if (origin == "*") return;
  const size_t end = origin.find("://");
  if (end != std::string::npos && end + 3 < origin.size() &&
      consists_of(origin.substr(0, end), cat(kLower, kDigits, "+-.")) && is_host(origin.substr(end + 3))) {
    return;
  }
  throw Error(
      cat("--cors-origin: expected * or an origin like https://example.com, in lower case and without a "
          "path, got ",
          printable(origin)));
}

void check_metrics_prefix(const std::string& prefix) {
  const std::string first = cat(kLower, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_:");
  if (consists_of(prefix.substr(0, 1), first) && consists_of(prefix, first + kDigits)) return;
  throw Error(cat("--metrics-prefix: expected letters, digits, _ and :, and no digit first, got ",
                  printable(prefix)));
}

void check_image_bodies(const ServerConfig& config) {
  check_bodies(config.http, config.http.image_body_bytes, ", which a model that takes images needs");
}

void check_config(const ServerConfig& config) {
  check_address(config.address);
  check_metrics_prefix(config.metrics_prefix);
  check_bodies(config.http, config.http.body_bytes, "");
  for (const std::string& origin : config.cors_origins) check_origin(origin);
  for (const std::string& key : config.api_keys) {
    if (key.empty()) throw Error("an API key is empty");
    if (key.size() < kLeastKeyBytes && !is_loopback(config.address)) {
      throw Error(cat("an API key must have at least ", kLeastKeyBytes, " characters on ", config.address,
                      ", and one has ", key.size(), ": `openssl rand -hex 24` makes a good one"));
    }
  }
  if (config.api_keys.empty() && !is_loopback(config.address)) {
    throw Error(cat("listening on ", config.address,
                    " lets others in, so it needs --api-key or --api-key-file; 127.0.0.1 does not"));
  }
}

}  // namespace llamita::server
