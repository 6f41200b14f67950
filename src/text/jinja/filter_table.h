// A filter: its name and what it does to the value before the bar. The table is put together from one list a
// theme, so that each file stays small.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/arguments.h"
#include "text/jinja/runtime.h"

namespace llamita::jinja {

struct Filter {
  std::string_view name;
  Value (*run)(Runtime&, const Value& input, const CallArgs&);
};

std::span<const Filter> text_filters();
std::span<const Filter> number_filters();
std::span<const Filter> sequence_filters();
std::span<const Filter> selection_filters();

// "a.b.0" applied to an item, as the attribute= arguments of filters mean it; none means the item itself.
Value lookup_path(Runtime& runtime, const Value& item, const Value& path, const Value* fallback);
// The item in lower case when it is a string: filters compare without case by default.
Value fold_case(Runtime& runtime, const Value& value, bool case_sensitive);

}  // namespace llamita::jinja
