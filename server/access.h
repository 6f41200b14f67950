// Access: who may call what. API keys are compared in constant time; requests that a foreign web page makes a
// browser send are refused unless its origin is allowed; without keys, a name that was made to point here
// (DNS rebinding) is refused too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/api/api_error.h"
#include "server/http/message.h"
#include "server/server_config.h"

namespace llamita::server {

class Access {
 public:
  explicit Access(const ServerConfig& config);

  // Throws ApiError (401, 403). `open`: needs no key (/health and the page's own files).
  void check(const HttpRequest& request, bool open) const;
  // What separates the caller's cached prefixes from others': a digest of the key; "" without keys.
  std::string salt(const HttpRequest& request) const;

  // The headers that let the calling page read the reply; none for origins that are not allowed.
  Headers cors_headers(const HttpRequest& request) const;
  // The answer to a browser's question beforehand (OPTIONS).
  HttpResponse preflight(const HttpRequest& request) const;

 private:
  bool allowed_origin(std::string_view origin) const;
  bool knows(std::string_view key) const;

  std::vector<std::string> key_digests_, origins_;
  bool local_without_key_;
};

bool is_loopback(std::string_view address);

}  // namespace llamita::server
