// What one rendering may spend. Templates come with models and are not trusted: loops, repeats and recursion
// all end in an error long before they hurt. Failure is the interpreter's internal exception; the program
// turns it into an llamita::Error with the line.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "base/cat.h"

namespace llamita::jinja {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Failure(cat(parts...));
}

constexpr size_t kMaxSource = size_t{1} << 20;  // bytes of a template
constexpr int kMaxParseDepth = 64;              // brackets and blocks inside each other
constexpr int kMaxTreeDepth = 200;              // of the syntax tree: long chains of one operator count too
constexpr int kMaxEvalDepth = 400;              // tree levels through all macros that are being called
constexpr int kMaxValueDepth = 200;             // lists inside lists
constexpr size_t kMaxSteps = 1'000'000;         // nodes evaluated and loop rounds
constexpr size_t kMaxText = size_t{4} << 20;    // bytes of the output, and of any string on the way
constexpr size_t kMaxWork = size_t{256} << 20;  // bytes built, copied or searched in all

class Budget {
 public:
  void step() {
    if (++steps_ > kMaxSteps) fail("the template takes more than ", kMaxSteps, " steps");
  }
  // `bytes` are about to be built, copied, compared or searched.
  void work(size_t bytes) {
    work_ += bytes;
    if (bytes > kMaxWork || work_ > kMaxWork) fail("the template handles more than ", kMaxWork, " bytes");
  }
  // A string of `bytes` is about to exist.
  void text(size_t bytes) {
    if (bytes > kMaxText) fail("the template builds a string of more than ", kMaxText, " bytes");
    work(bytes);
  }

 private:
  size_t steps_ = 0;
  size_t work_ = 0;
};

}  // namespace llamita::jinja
