// Value: what an expression yields, with Python's meaning. Strings, lists, tuples and dicts are immutable and
// shared, as the sandbox of Hugging Face's environment demands; only namespaces change.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "formats/json.h"
#include "text/jinja/text.h"

namespace llamita::jinja {

class Value;
class Object;
class Runtime;
using Values = std::vector<Value>;

struct None {};

// Jinja's default Undefined: false, empty when printed; the message is the error of any other use.
struct Undefined {
  std::string message;
};

struct List;
struct Tuple;
class Dict;

class Value {
 public:
  Value() = default;  // none
  static Value undefined(std::string message);
  static Value boolean(bool value) { return Value(value); }
  static Value integer(int64_t value) { return Value(value); }
  static Value real(double value) { return Value(value); }
  static Value text(Text value);
  // A string that the template, not a user, wrote.
  static Value text(std::string_view trusted) { return text(Text(std::string(trusted), true)); }
  static Value list(Values items);
  static Value tuple(Values items);
  // The pair of the filter groupby: a tuple that also answers .grouper and .list.
  static Value group(Value grouper, Value items);
  static Value dict(Dict value);
  static Value object(std::shared_ptr<Object> value);
  // Strings inside, keys too, carry the mark `trusted`.
  static Value from_json(const Json& json, bool trusted);

  bool is_none() const { return is<None>(); }
  bool is_undefined() const { return is<std::shared_ptr<const Undefined>>(); }
  bool is_bool() const { return is<bool>(); }
  bool is_int() const { return is<int64_t>(); }  // a bool is no int here
  bool is_float() const { return is<double>(); }
  bool is_text() const { return is<std::shared_ptr<const Text>>(); }
  bool is_list() const { return is<std::shared_ptr<const List>>(); }
  bool is_tuple() const { return is<std::shared_ptr<const Tuple>>(); }
  bool is_dict() const { return is<std::shared_ptr<const Dict>>(); }
  bool is_object() const { return is<std::shared_ptr<Object>>(); }
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_number() const { return is_integral() || is_float(); }

  // Preconditions: the matching is_…().
  const std::string& undefined_message() const;
  bool as_bool() const { return std::get<bool>(storage_); }
  int64_t as_int() const { return is_bool() ? as_bool() : std::get<int64_t>(storage_); }
  double as_double() const { return is_float() ? std::get<double>(storage_) : static_cast<double>(as_int()); }
  const Text& as_text() const { return *std::get<std::shared_ptr<const Text>>(storage_); }
  const Values& as_items() const;  // of a list or tuple
  bool is_group() const;
  const Dict& as_dict() const { return *std::get<std::shared_ptr<const Dict>>(storage_); }
  const std::shared_ptr<Object>& as_object() const { return std::get<std::shared_ptr<Object>>(storage_); }
  // Where the shared part lives; two values with the same address are Python's `is`.
  const void* address() const;

  // Levels of containers below this value.
  int depth() const;
  // Python's name of the type ("str", "dict").
  std::string type_name() const;

 private:
  template <class T>
  explicit Value(T value) : storage_(std::move(value)) {}
  template <class T>
  bool is() const {
    return std::holds_alternative<T>(storage_);
  }

  std::variant<None, std::shared_ptr<const Undefined>, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const List>, std::shared_ptr<const Tuple>, std::shared_ptr<const Dict>,
               std::shared_ptr<Object>>
      storage_;
};

// A dict in insertion order. A later entry of an equal key replaces the value and keeps the place.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  void set(const Value& key, Value value);  // fails for a key that Python cannot hash
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;  // hash_key() of the key to its place
  int depth_ = 1;
};

struct List {
  Values items;
  int depth;
};
struct Tuple {
  Values items;
  int depth;
  bool group;
};

// Bytes that are equal exactly for values that are equal dict keys (1, 1.0 and true are one key). Fails for
// lists and dicts.
std::string hash_key(const Value& value);

struct CallArgs {
  Values positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

// Everything with a behaviour of its own: functions, methods, macros, loops, namespaces, iterators.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;
  // What printing shows.
  virtual std::string repr() const { return "<" + type_name() + " object>"; }
  virtual std::optional<Value> attribute(Runtime&, std::string_view) { return std::nullopt; }
  virtual bool callable() const { return false; }
  virtual Value call(Runtime&, const CallArgs&);
  // Objects with a length and items that can be visited again (ranges, dict views).
  virtual const Values* sequence() const { return nullptr; }
  virtual bool indexable() const { return false; }
  // The items still to come, each given once, or nullopt for what cannot be iterated.
  virtual std::optional<Values> take_items();
  virtual int depth() const { return 0; }
};

}  // namespace llamita::jinja
