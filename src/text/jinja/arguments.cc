#include "text/jinja/arguments.h"

#include <algorithm>

namespace llamita::jinja {

Arguments::Arguments(std::string_view what, const CallArgs& args,
                     std::initializer_list<std::string_view> names, size_t required)
    : what_(what) {
  if (args.positional.size() > names.size()) {
    fail(what, "() takes at most ", names.size(), " arguments (", args.positional.size(), " given)");
  }
  for (size_t i = 0; i < args.positional.size(); ++i) bound_[i] = &args.positional[i];
  for (const auto& [name, value] : args.keyword) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) fail(what, "() got an unexpected keyword argument '", name, "'");
    const Value*& slot = bound_[static_cast<size_t>(found - names.begin())];
    if (slot) fail(what, "() got two values for the argument '", name, "'");
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!bound_[i]) fail(what, "() misses its argument '", *(names.begin() + i), "'");
  }
}

bool Arguments::truth_or(size_t i, bool fallback) const { return has(i) ? truth(*bound_[i]) : fallback; }

int64_t Arguments::int_or(size_t i, int64_t fallback) const {
  return has(i) ? to_index(*bound_[i], what_) : fallback;
}

const Text& Arguments::text(size_t i) const {
  require_defined(*bound_[i]);
  if (!bound_[i]->is_text()) fail(what_, "() takes a string, not '", bound_[i]->type_name(), "'");
  return bound_[i]->as_text();
}

int64_t to_index(const Value& value, std::string_view what) {
  require_defined(value);
  if (!value.is_integral()) fail(what, ": '", value.type_name(), "' is no integer");
  return value.as_int();
}

}  // namespace llamita::jinja
