// RequestError: a request that this model cannot serve, with what is at fault for programs: a server names
// the field of its own API.
#pragma once

#include <cstddef>
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
    picture,      // it is no image that can be taken; PictureError says which
  };
  RequestError(Fault fault, std::string message) : Error(std::move(message)), fault_(fault) {}
  Fault fault() const { return fault_; }

 private:
  Fault fault_;
};

class PictureError : public RequestError {
 public:
  // `picture`: which one, in the order of the request's pictures from 0 on.
  PictureError(size_t picture, std::string message)
      : RequestError(Fault::picture, std::move(message)), picture_(picture) {}
  size_t picture() const { return picture_; }

 private:
  size_t picture_;
};

}  // namespace llamita
