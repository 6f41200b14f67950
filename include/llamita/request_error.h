// RequestError: a request that this model cannot serve, with what is at fault for programs: a server names
// the field of its own API.
#pragma once

#include <string>
#include <utility>

#include "llamita/error.h"

namespace llamita {

class RequestError : public Error {
 public:
  enum class Fault {
    prompt,       // it is empty
    prompt_size,  // it is longer than the context
    messages,     // the chat template has no place for what they hold
    tools,        // … for tools
    form,         // SamplingParams::constraint cannot be compiled
  };
  RequestError(Fault fault, std::string message) : Error(std::move(message)), fault_(fault) {}
  Fault fault() const { return fault_; }

 private:
  Fault fault_;
};

}  // namespace llamita
