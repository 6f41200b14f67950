// Any bytes, cut anywhere, are requests or a refusal; the cut does not matter, and what is accepted is within
// the limits.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "server/http/request_parser.h"

namespace {

using llamita::server::HttpLimits;
using llamita::server::RequestParser;

// What became of the bytes, as text.
std::string outcome(std::string_view data, size_t piece, const HttpLimits& limits) {
  RequestParser parser(limits);
  std::string waiting;
  for (size_t at = 0; at < data.size(); at += piece) {
    waiting += data.substr(at, piece);
    waiting.erase(0, parser.push(waiting));
  }
  switch (parser.state()) {
    case RequestParser::State::header: return "header";
    case RequestParser::State::body: return "body";
    case RequestParser::State::failed: return "failed";
    case RequestParser::State::done: break;
  }
  const auto request = parser.take();
  LLAMITA_CHECK(request.body.size() <= limits.body_bytes, "a body is longer than its limit");
  LLAMITA_CHECK(request.headers.size() <= static_cast<size_t>(limits.header_lines), "too many header lines");
  std::string out = request.method + " " + request.target + "\n";
  for (const auto& [name, value] : request.headers) out += name + ":" + value + "\n";
  return out + request.body + "\n" + waiting;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 4096) return 0;
  HttpLimits limits;
  limits.header_bytes = 512;
  limits.header_lines = 8;
  limits.body_bytes = 256;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::string whole = outcome(text, text.size(), limits);
  const std::string cut = outcome(text, 1 + data[0] % 32, limits);
  // When a fault is seen may depend on the cut; what is accepted may not.
  const auto open = [](const std::string& state) { return state.find('\n') == std::string::npos; };
  LLAMITA_CHECK(whole == cut || (open(whole) && open(cut)), "the cut changed the request");
  return 0;
}
