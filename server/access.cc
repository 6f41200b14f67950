#include "server/access.h"

#include <algorithm>
#include <span>

#include "base/cat.h"
#include "base/sha256.h"

namespace llamita::server {

namespace {

constexpr const char* kForeignPage =
    "pages of this origin may not call the server; starting it with --cors-origin ORIGIN allows them";

std::string digest(std::string_view text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text.data(), text.size())));
  return hash.hex_digest();
}

// Takes the same time wherever the texts differ.
bool equal(std::string_view a, std::string_view b) {
  unsigned difference = a.size() != b.size();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

std::string_view bearer(const HttpRequest& request) {
  const std::string_view header = request.header("authorization");
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() < kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((header[i] | 0x20) != (kScheme[i] | 0x20)) return {};
  }
  return header.substr(kScheme.size());
}

// Without its port and the brackets of IPv6.
std::string_view host_name(std::string_view host) {
  if (!host.empty() && host[0] == '[') return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.rfind(':'));
}

bool is_ip_address(std::string_view host) {
  const auto among = [&](std::string_view letters) {
    return host.find_first_not_of(letters) == std::string_view::npos;
  };
  if (host.find(':') != std::string_view::npos) return among("0123456789abcdefABCDEF:.%");
  return !host.empty() && among("0123456789.");
}

}  // namespace

bool is_loopback(std::string_view address) {
  return address == "localhost" || address == "::1" || address.rfind("127.", 0) == 0;
}

Access::Access(const ServerConfig& config)
    : origins_(config.cors_origins),
      local_without_key_(config.api_keys.empty() && is_loopback(config.address)) {
  for (const std::string& key : config.api_keys) key_digests_.push_back(digest(key));
}

bool Access::knows(std::string_view key) const {
  const std::string hashed = digest(key);
  bool found = false;
  for (const std::string& known : key_digests_) found |= equal(hashed, known);
  return found;
}

bool Access::allowed_origin(std::string_view origin) const {
  return std::any_of(origins_.begin(), origins_.end(),
                     [&](const std::string& allowed) { return allowed == "*" || allowed == origin; });
}

void Access::check(const HttpRequest& request, bool open) const {
  const std::string_view host = request.header("host");
  if (local_without_key_ && !host.empty()) {
    const std::string_view name = host_name(host);
    if (name != "localhost" && !is_ip_address(name)) {
      throw ApiError(403,
                     "this server answers to localhost and IP addresses only; starting it with an API key "
                     "(--api-key) lifts that");
    }
  }
  const std::string_view origin = request.header("origin");
  if (!origin.empty() && request.method != "GET" && request.method != "HEAD") {
    const bool own = origin == cat("http://", host) || origin == cat("https://", host);
    if (!own && !allowed_origin(origin)) {
      throw ApiError(403, kForeignPage);
    }
  }
  if (open || key_digests_.empty()) return;
  const std::string_view key = bearer(request);
  if (key.empty()) {
    throw ApiError(401, "an API key is needed: send the header 'Authorization: Bearer KEY'", {},
                   "missing_api_key");
  }
  if (!knows(key)) throw ApiError(401, "this API key is not known here", {}, "invalid_api_key");
}

std::string Access::salt(const HttpRequest& request) const {
  return key_digests_.empty() ? std::string() : digest(bearer(request));
}

Headers Access::cors_headers(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (origins_.empty() || origin.empty() || !allowed_origin(origin)) return {};
  return {{"Access-Control-Allow-Origin", std::string(origin)}, {"Vary", "Origin"}};
}

HttpResponse Access::preflight(const HttpRequest& request) const {
  HttpResponse response{204, cors_headers(request), {}};
  if (response.headers.empty()) return error_response(ApiError(403, kForeignPage));
  response.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  // OpenAI's own client for browsers sends a dozen headers that say what it is. What the page may send is no
  // matter here: that it may call at all is decided.
  const std::string_view wanted = request.header("access-control-request-headers");
  response.headers.emplace_back("Access-Control-Allow-Headers",
                                wanted.empty() ? "Authorization, Content-Type" : std::string(wanted));
  response.headers.emplace_back("Access-Control-Max-Age", "600");
  return response;
}

}  // namespace llamita::server
