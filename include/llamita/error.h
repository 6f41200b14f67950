// What Llamita throws when the user or the environment is at fault: a file that is missing or broken, an
// option that makes no sense, a model that does not fit. The message is one sentence that says what was
// expected, what came, where, and what to do about it. Programmer errors are checks (base/check.h) and never
// reach a caller; expected outcomes (queue full, cancelled) are return values.
#pragma once

#include <stdexcept>
#include <string>

namespace llamita {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace llamita
