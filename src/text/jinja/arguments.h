// Arguments: the arguments of a call bound to parameter names, the way Python binds them.
#pragma once

#include <array>
#include <initializer_list>
#include <string_view>

#include "text/jinja/runtime.h"

namespace llamita::jinja {

class Arguments {
 public:
  static constexpr size_t kMost = 5;

  // Binds `args` to `names`; fails for too many, unknown or doubled ones, and when fewer than `required` are
  // there. `what` names the callee in errors. Borrows `args`.
  Arguments(std::string_view what, const CallArgs& args, std::initializer_list<std::string_view> names,
            size_t required);

  bool has(size_t i) const { return bound_[i] != nullptr; }
  const Value& operator[](size_t i) const { return *bound_[i]; }
  // The argument, or none when it was not given.
  Value get(size_t i) const { return has(i) ? *bound_[i] : Value(); }

  // Typed access with Python's complaint when the type is another; `fallback` stands in for a missing one.
  bool truth_or(size_t i, bool fallback) const;
  int64_t int_or(size_t i, int64_t fallback) const;
  const Text& text(size_t i) const;

 private:
  std::string_view what_;
  std::array<const Value*, kMost> bound_{};
};

// A filter's or test's parameters, for the tables.
int64_t to_index(const Value& value, std::string_view what);

}  // namespace llamita::jinja
