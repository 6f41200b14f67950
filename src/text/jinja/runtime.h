// Runtime: what filters, tests, methods and functions need from the interpreter that runs them, and the
// language's operations on values. All of them charge the budget and fail as Jinja2 does.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/budget.h"
#include "text/jinja/value.h"

namespace llamita::jinja {

class Runtime {
 public:
  explicit Runtime(std::tm now) : now_(now) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Budget& budget() { return budget_; }
  const std::tm& now() const { return now_; }  // local time that strftime_now() shows

  // Keeps something that can be part of a reference cycle (a namespace, a scope with macros) until the end of
  // the rendering, when `clear` breaks the cycle.
  void keep(std::function<void()> clear);

  // Charged constructors.
  Value text(Text text);
  Value text(std::string_view trusted);
  Value list(Values items);
  Value tuple(Values items);

 private:
  Budget budget_;
  std::tm now_;
  std::vector<std::function<void()>> kept_;
};

// Python's bool().
bool truth(const Value& value);
// Fails with the message of an undefined value; does nothing for any other.
void require_defined(const Value& value);

// Python's == and <; `less` fails for types without an order.
bool equal(Runtime& runtime, const Value& a, const Value& b);
bool less(Runtime& runtime, const Value& a, const Value& b);
// `needle in haystack`.
bool contains(Runtime& runtime, const Value& haystack, const Value& needle);

// + - * / // % **
Value binary(Runtime& runtime, std::string_view op, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);

// Python's str() and repr(), and json.dumps. A container's own punctuation counts as a user's when anything
// inside is a user's.
Text to_text(Runtime& runtime, const Value& value);
Text repr(Runtime& runtime, const Value& value);
std::string format_float(double value);
struct JsonStyle {
  std::optional<std::string> indent;  // none: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ascii_only = false;
};
Text to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

// The items of anything that can be iterated; an iterator is used up by it.
Values iterate(Runtime& runtime, const Value& value);
bool is_iterable(const Value& value);
// len(), or nullopt for what has no length.
std::optional<size_t> length(const Value& value);
// An iterator over `items`, as lazy filters return it.
Value make_iterator(Values items, std::string type_name);

// value.name, value[key], value[start:stop:step] under the sandbox's rules.
Value get_attribute(Runtime& runtime, const Value& value, std::string_view name);
Value get_item(Runtime& runtime, const Value& value, const Value& key);
Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step);
Value call(Runtime& runtime, const Value& callee, const CallArgs& args);

// The method of a built-in type as a bound function, or nullopt when the type has none of that name.
std::optional<Value> bind_method(const Value& self, std::string_view name);
// Methods that the immutable sandbox hides.
bool changes_its_object(const Value& self, std::string_view name);

bool has_filter(std::string_view name);
bool has_test(std::string_view name);
Value call_filter(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args);
bool call_test(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args);

// range, dict, namespace, raise_exception, strftime_now, joiner, cycler; nullptr for any other name.
const Value* find_global(std::string_view name);

// ns.name = value; fails when `target` is no namespace or the name begins with an underscore.
void set_attribute(Runtime& runtime, const Value& target, const std::string& name, Value value);

// "%d of %s" % args.
Text format_percent(Runtime& runtime, const Text& format, const Value& args);
// "{} {name!r:>8}".format(…).
Text format_braces(Runtime& runtime, const Text& format, const CallArgs& args);

}  // namespace llamita::jinja
