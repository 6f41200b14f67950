// HTTP requests and replies as the rest of the server sees them: plain values, no sockets.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llamita::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET", …
  std::string target;  // as it came: "/v1/models?x=1"
  Headers headers;     // names in lower case
  std::string body;
  bool keep_alive = true;
  bool http_1_1 = false;  // or later
  // What the body holds of HttpLimits::bodies_bytes; whoever keeps the body keeps this with it, and no
  // longer.
  std::shared_ptr<const void> body_share = {};

  // The target without its query.
  std::string_view path() const { return std::string_view(target).substr(0, target.find('?')); }
  // The first header of this (lower-case) name, or "".
  std::string_view header(std::string_view name) const;
  bool has_header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  Headers headers;  // without the framing: Content-Length, Transfer-Encoding and Connection are added
  std::string body;
};

// "Not Found" for 404.
std::string_view reason_phrase(int status);

// "Sun, 06 Nov 1994 08:49:37 GMT", in any locale.
std::string http_date(std::time_t time);

// The head of a reply, with the date, up to the empty line. `framing` is "Content-Length: 5", say.
std::string response_head(int status, const Headers& headers, std::string_view framing, bool keep_alive);

// One chunk of a chunked body; "" makes the last one.
std::string chunk(std::string_view piece);

}  // namespace llamita::server
