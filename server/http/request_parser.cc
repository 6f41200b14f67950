#include "server/http/request_parser.h"

#include <utility>  // before Beast, which forgets it
// Keep this order.
#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>

#include "base/cat.h"
#include "formats/printable.h"

namespace llamita::server {

namespace {

namespace http = boost::beast::http;

constexpr std::string_view kTlsHandshake = "\x16";  // the first byte of a client that expects TLS

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

struct RequestParser::Impl {
  http::request_parser<http::string_body> parser;
};

RequestParser::RequestParser(const HttpLimits& limits) : limits_(limits), impl_(std::make_unique<Impl>()) {
  impl_->parser.eager(false);  // the header first, to be looked at
  // push() counts itself, to the byte.
  impl_->parser.header_limit(std::numeric_limits<uint32_t>::max());
  impl_->parser.body_limit(limits.body_bytes);
}

RequestParser::~RequestParser() = default;

void RequestParser::fail(int status, std::string message) {
  state_ = State::failed;
  status_ = status;
  message_ = std::move(message);
}

void RequestParser::check_header() {
  const auto& message = impl_->parser.get();
  impl_->parser.eager(true);
  // Now, because Beast will add the trailer of a chunked body to the same fields.
  for (const auto& field : message) {
    headers_.emplace_back(lower(std::string_view(field.name_string())), std::string(field.value()));
  }
  if (headers_.size() > static_cast<size_t>(limits_.header_lines)) {
    return fail(431, cat("the request has ", headers_.size(), " header lines; at most ", limits_.header_lines,
                         " are taken"));
  }
  const std::string coding = lower(std::string_view(message[http::field::content_encoding]));
  if (!coding.empty() && coding != "identity") {
    return fail(415, cat("the body is encoded as ", printable(coding), "; send it as it is"));
  }
  if (message.count(http::field::content_length) > 1) {
    return fail(400, "the request has more than one Content-Length");
  }
  continue_asked_ = lower(std::string_view(message[http::field::expect])) == "100-continue";
  state_ = State::body;
}

size_t RequestParser::push(std::string_view data) {
  if (state_ == State::done || state_ == State::failed) return 0;
  if (state_ == State::header && data.substr(0, 1) == kTlsHandshake) {
    fail(400, "this port speaks plain HTTP: use http://, or a proxy that ends TLS");
    return 0;
  }
  if (state_ == State::header) {
    // Beast uses whole lines as they come, so `data` begins where a line does; the empty one ends the header.
    const bool ends_here = header_used_ > 0 && data.substr(0, 2) == "\r\n";
    const size_t blank = data.find("\r\n\r\n");
    const size_t end = ends_here ? 2 : blank == std::string_view::npos ? data.size() : blank + 4;
    if (header_used_ + end > limits_.header_bytes) {
      fail(431, cat("the request's header has more than ", limits_.header_bytes, " bytes"));
      return 0;
    }
  }
  size_t used = 0;
  for (;;) {
    boost::system::error_code error;
    // Beast bounds neither a chunk's head nor the trailer, and uses them when all of them is there: it never
    // sees more at once than they may be.
    const size_t seen = std::min(data.size() - used, limits_.header_bytes);
    const size_t taken = impl_->parser.put(boost::asio::const_buffer(data.data() + used, seen), error);
    used += taken;
    header_used_ += state_ == State::header ? taken : 0;
    if (error == http::error::body_limit) {
      fail(413, cat("the request's body has more than ", limits_.body_bytes, " bytes"));
    } else if (error && error != http::error::need_more) {
      fail(400, cat("this is no HTTP request: ", error.message()));
    }
    if (state_ == State::header && impl_->parser.is_header_done()) check_header();
    if (state_ == State::failed) return used;
    if (impl_->parser.is_done()) {
      state_ = State::done;
      return used;
    }
    if (taken == 0 && state_ == State::body && seen == limits_.header_bytes) {
      fail(431, cat("a chunk's head or the trailer has more than ", limits_.header_bytes, " bytes"));
    }
    if (taken == 0 || used == data.size()) return used;
  }
}

bool RequestParser::wants_continue() {
  return state_ == State::body && std::exchange(continue_asked_, false);
}

HttpRequest RequestParser::head() const {
  const auto& message = impl_->parser.get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  request.headers = headers_;
  request.keep_alive = message.keep_alive();
  request.http_1_1 = message.version() >= 11;
  return request;
}

size_t RequestParser::body_bytes() const { return impl_->parser.get().body().size(); }

uint64_t RequestParser::body_to_come() const { return impl_->parser.content_length_remaining().value_or(0); }

HttpRequest RequestParser::take() {
  auto message = impl_->parser.release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  request.headers = std::move(headers_);
  request.keep_alive = message.keep_alive();
  request.body = std::move(message.body());
  request.http_1_1 = message.version() >= 11;
  return request;
}

}  // namespace llamita::server
