// What Llamita throws when the user or the environment is at fault: a file that is missing or broken, an
// option that makes no sense, a model that does not fit. The message is one sentence that says what was
// expected, what came, where, and what to do about it. Programmer errors are checks (base/check.h) and never
// reach a caller; expected outcomes (queue full, cancelled) are return values.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace llamita {

// A copy shares nothing with its original, so that one may go to another thread (std::runtime_error counts
// references to one text).
class Error : public std::exception {
 public:
  explicit Error(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// The device computes nothing more for this process: an illegal access, a card that failed. Only a new
// process gets it back.
class DeviceLostError : public Error {
 public:
  using Error::Error;
};

}  // namespace llamita
