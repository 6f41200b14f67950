// The tests behind `is`.
#include <algorithm>
#include <map>

#include "text/jinja/arguments.h"
#include "text/jinja/runtime.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

using Predicate = bool (*)(const Value&);
using Comparison = bool (*)(Runtime&, const Value&, const Value&);

bool is_mapping(const Value& v) { return v.is_dict(); }
bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_true(const Value& v) { return v.is_bool() && v.as_bool(); }
bool is_false(const Value& v) { return v.is_bool() && !v.as_bool(); }
bool is_callable(const Value& v) { return v.is_undefined() || (v.is_object() && v.as_object()->callable()); }
bool is_never(const Value&) { return false; }

bool is_sequence(const Value& v) {
  if (v.is_object()) return v.as_object()->indexable();
  return length(v).has_value();
}

bool remainder_is(Runtime& runtime, const Value& value, const Value& divisor, int64_t wanted) {
  if (!value.is_number() && !value.is_undefined())
    fail("this test takes a number, not '", value.type_name(), "'");
  return equal(runtime, binary(runtime, "%", value, divisor), Value::integer(wanted));
}

// str.isupper() and str.islower(): cased letters are there, and all of the one case.
bool is_cased(Runtime& runtime, const Value& value, bool upper) {
  const Text text = to_text(runtime, value);
  runtime.budget().work(text.size());
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = unicode::decode(text.view(), at);
    const bool is_upper = unicode::is_upper(code), is_lower = unicode::is_lower(code);
    if (unicode::is_title(code) || (upper ? is_lower : is_upper)) return false;
    any |= upper ? is_upper : is_lower;
    at += size;
  }
  return any;
}

bool same(Runtime& runtime, const Value& a, const Value& b) {
  if (a.address() || b.address()) return a.address() == b.address();
  return a.type_name() == b.type_name() && equal(runtime, a, b);
}

const std::map<std::string_view, Predicate>& predicates() {
  static const std::map<std::string_view, Predicate> kPredicates{
      {"defined", is_defined},
      {"undefined", [](const Value& v) { return v.is_undefined(); }},
      {"none", [](const Value& v) { return v.is_none(); }},
      {"boolean", [](const Value& v) { return v.is_bool(); }},
      {"true", is_true},
      {"false", is_false},
      {"integer", [](const Value& v) { return v.is_int(); }},
      {"float", [](const Value& v) { return v.is_float(); }},
      {"number", [](const Value& v) { return v.is_number(); }},
      {"string", [](const Value& v) { return v.is_text(); }},
      {"mapping", is_mapping},
      {"sequence", is_sequence},
      {"iterable", is_iterable},
      {"callable", is_callable},
      {"escaped", is_never},
  };
  return kPredicates;
}

const std::map<std::string_view, Comparison>& comparisons() {
  static const Comparison kLess = less;
  static const Comparison kNotGreater = [](Runtime& runtime, const Value& a, const Value& b) {
    return less(runtime, a, b) || equal(runtime, a, b);
  };
  static const Comparison kGreater = [](Runtime& runtime, const Value& a, const Value& b) {
    return less(runtime, b, a);
  };
  static const Comparison kNotLess = [](Runtime& runtime, const Value& a, const Value& b) {
    return less(runtime, b, a) || equal(runtime, a, b);
  };
  static const Comparison kNotEqual = [](Runtime& runtime, const Value& a, const Value& b) {
    return !equal(runtime, a, b);
  };
  static const Comparison kIn = [](Runtime& runtime, const Value& a, const Value& b) {
    return contains(runtime, b, a);
  };
  static const Comparison kDivisible = [](Runtime& runtime, const Value& a, const Value& b) {
    return remainder_is(runtime, a, b, 0);
  };
  static const std::map<std::string_view, Comparison> kComparisons{
      {"==", equal},
      {"eq", equal},
      {"equalto", equal},
      {"!=", kNotEqual},
      {"ne", kNotEqual},
      {"<", kLess},
      {"lt", kLess},
      {"lessthan", kLess},
      {"<=", kNotGreater},
      {"le", kNotGreater},
      {">", kGreater},
      {"gt", kGreater},
      {"greaterthan", kGreater},
      {">=", kNotLess},
      {"ge", kNotLess},
      {"in", kIn},
      {"sameas", same},
      {"divisibleby", kDivisible},
  };
  return kComparisons;
}

constexpr std::string_view kOthers[] = {"odd", "even", "upper", "lower", "filter", "test"};

}  // namespace

bool has_test(std::string_view name) {
  return predicates().count(name) || comparisons().count(name) ||
         std::find(std::begin(kOthers), std::end(kOthers), name) != std::end(kOthers);
}

bool call_test(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args) {
  runtime.budget().step();
  if (const auto found = comparisons().find(name); found != comparisons().end()) {
    const Arguments given(name, args, {"other"}, 1);
    return found->second(runtime, input, given[0]);
  }
  Arguments(name, args, {}, 0);
  if (const auto found = predicates().find(name); found != predicates().end()) return found->second(input);
  if (name == "odd" || name == "even") return remainder_is(runtime, input, Value::integer(2), name == "odd");
  if (name == "upper" || name == "lower") return is_cased(runtime, input, name == "upper");
  if (name == "filter" || name == "test") hash_key(input);  // fails as a look-up in Python's table does
  if (name == "filter") return input.is_text() && has_filter(input.as_text().view());
  if (name == "test") return input.is_text() && has_test(input.as_text().view());
  fail("there is no test named '", name, "'");
}

}  // namespace llamita::jinja
