// RequestParser: bytes of a connection in, one HttpRequest out, within the limits. Boost.Beast parses; this
// class bounds it and knows no sockets, so that tests and fuzzing feed it bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/limits.h"
#include "server/http/message.h"

namespace llamita::server {

class RequestParser {
 public:
  explicit RequestParser(const HttpLimits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  enum class State {
    header,  // more bytes of the header are needed
    body,    // the header is complete and within its limits, the body is not
    done,    // take() gives the request
    failed,  // status() and message() say why; the connection cannot go on
  };

  // Parses from the front of `data` and returns how many bytes were used; what is left must come again, in
  // front of what arrives next. After `done` the rest belongs to the next request.
  size_t push(std::string_view data);
  State state() const { return state_; }
  // The client waits for "100 Continue" before it sends the body. True in state `body`, once.
  bool wants_continue();
  HttpRequest head() const;       // once the header is complete: the request without its body
  size_t body_bytes() const;      // that have arrived
  uint64_t body_to_come() const;  // of a Content-Length, once the header is complete; 0 of a chunked body
  HttpRequest take();

  int status() const { return status_; }
  const std::string& message() const { return message_; }

 private:
  struct Impl;
  void fail(int status, std::string message);
  void check_header();

  HttpLimits limits_;
  std::unique_ptr<Impl> impl_;
  State state_ = State::header;
  size_t header_used_ = 0;  // bytes
  Headers headers_;
  bool continue_asked_ = false;
  int status_ = 0;
  std::string message_;
};

}  // namespace llamita::server
