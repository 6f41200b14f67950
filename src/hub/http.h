// HTTP by libcurl, which is opened on first use and needed by nothing else in the program. One request at a
// time, redirects followed by us, because a token must never travel to another host.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "llamita/error.h"

namespace llamita::hub {

// No connection to the host came about: its name is unknown, nobody answers there, a proxy refuses or its
// certificate is not trusted. The message names the host and the reason.
class Unreachable : public Error {
 public:
  using Error::Error;
};

struct HttpRequest {
  std::string url;
  bool head = false;
  std::map<std::string, std::string> headers;
  std::string token;    // bearer token, sent to the host of `url` only; empty for none
  uint64_t offset = 0;  // > 0: asks for the bytes from here on
  // Redirects are followed, at most five; with this, one that leads to another host is handed back instead.
  bool same_host_only = false;
  int connect_timeout_s = 30;
  int stall_timeout_s = 60;  // a transfer that brings under 1 byte/s for so long has failed
  // For all of it, redirects included; none: as long as bytes come.
  std::optional<std::chrono::milliseconds> total_timeout = {};
  std::function<bool()> stopped = {};  // asked now and then, at least once a second: true ends the transfer
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // of the last response, names in lower case
  // Of the response that redirected, when there was one: what a hub says about the file before sending on.
  std::map<std::string, std::string> first_headers;
  uint64_t body_bytes = 0;
};

// Bytes of a body as they come, with the response's status and headers so far; false ends the transfer.
using BodyFn = std::function<bool(const HttpResponse& response, std::span<const std::byte> bytes)>;

// Whether libcurl is there; `reason` says why not and what to install.
bool http_available(std::string* reason = nullptr);

// Performs the request; the body of a 2xx answer goes to `body`. Throws Unreachable when there is no way to
// the host, Error when libcurl is missing, the connection breaks, a body is shorter than announced, the time
// is over or the request was stopped. A status of 400 or more is no error here. Thread-safe.
HttpResponse http_fetch(const HttpRequest& request, const BodyFn& body);

// The body of a GET as text, at most `limit` bytes.
HttpResponse http_get_text(const HttpRequest& request, size_t limit, std::string& out);

}  // namespace llamita::hub
