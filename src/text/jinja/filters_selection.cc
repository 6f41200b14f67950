// map, select, reject, selectattr, rejectattr, attr: filters that take other filters and tests by name.
#include <array>

#include "text/jinja/filter_table.h"

namespace llamita::jinja {

namespace {

// Arguments from the n-th positional one on, for the filter or test that is called with them.
CallArgs rest_of(const CallArgs& args, size_t n) {
  return {Values(args.positional.begin() + static_cast<std::ptrdiff_t>(n), args.positional.end()),
          args.keyword};
}

const Text& name_argument(const CallArgs& args, size_t i) {
  require_defined(args.positional[i]);
  if (!args.positional[i].is_text()) fail("the name of a filter or test is a string");
  return args.positional[i].as_text();
}

Value map(Runtime& runtime, const Value& input, const CallArgs& args) {
  Values out;
  if (!truth(input)) return make_iterator({}, "generator");
  if (args.positional.empty()) {
    const Value* path = nullptr;
    const Value* fallback = nullptr;
    for (const auto& [name, value] : args.keyword) {
      if (name == "attribute")
        path = &value;
      else if (name == "default")
        fallback = value.is_none() ? nullptr : &value;
      else
        fail("map() got an unexpected keyword argument '", name, "'");
    }
    if (!path) fail("map requires a filter argument");
    for (const Value& item : iterate(runtime, input))
      out.push_back(lookup_path(runtime, item, *path, fallback));
  } else {
    const CallArgs rest = rest_of(args, 1);
    for (const Value& item : iterate(runtime, input)) {
      out.push_back(call_filter(runtime, name_argument(args, 0).view(), item, rest));
    }
  }
  return make_iterator(std::move(out), "generator");
}

template <bool by_attribute, bool wanted>
Value choose(Runtime& runtime, const Value& input, const CallArgs& args) {
  if (!truth(input)) return make_iterator({}, "generator");
  constexpr size_t kName = by_attribute ? 1 : 0;
  if (args.positional.size() < kName) fail("Missing parameter for attribute name");
  const bool has_test = args.positional.size() > kName;
  const CallArgs rest = has_test ? rest_of(args, kName + 1) : CallArgs{};
  Values out;
  for (const Value& item : iterate(runtime, input)) {
    const Value value = by_attribute ? lookup_path(runtime, item, args.positional[0], nullptr) : item;
    const bool holds =
        has_test ? call_test(runtime, name_argument(args, kName).view(), value, rest) : truth(value);
    if (holds == wanted) out.push_back(item);
  }
  return make_iterator(std::move(out), "generator");
}

Value attr(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("attr", args, {"name"}, 1);
  const Text& name = given.text(0);
  require_defined(input);
  // Only what is an attribute in Python; the items of a dict are none.
  if (input.is_dict() && !bind_method(input, name.view())) {
    return Value::undefined(cat("'dict object' has no attribute '", name.view(), "'"));
  }
  return get_attribute(runtime, input, name.view());
}

constexpr std::array kFilters{
    Filter{"attr", attr},
    Filter{"map", map},
    Filter{"reject", choose<false, false>},
    Filter{"rejectattr", choose<true, false>},
    Filter{"select", choose<false, true>},
    Filter{"selectattr", choose<true, true>},
};

}  // namespace

std::span<const Filter> selection_filters() { return kFilters; }

}  // namespace llamita::jinja
