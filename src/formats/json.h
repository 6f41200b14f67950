// Bounded JSON for files that are not trusted: config.json, tokenizer.json, safetensors headers. Objects keep
// the order of the file; duplicate keys, broken UTF-8, too much nesting and trailing bytes are errors with an
// offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace llamita {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  struct Limits {
    size_t bytes = size_t{256} << 20;
    int depth = 64;                   // of nested arrays and objects
    size_t values = size_t{8} << 20;  // what "[0,0,0,…" may cost: 40 bytes of memory for each
  };

  Json() = default;  // null
  explicit Json(bool value) : value_(value) {}
  explicit Json(int64_t value) : value_(value) {}
  explicit Json(double value) : value_(value) {}
  explicit Json(std::string value) : value_(std::move(value)) {}
  explicit Json(Array value) : value_(std::move(value)) {}
  explicit Json(Object value) : value_(std::move(value)) {}

  // Throws Error "<source>, offset <n>: …" when `text` is not one JSON value within the limits. Integers that
  // fit int64 stay exact; every other number is a double. Parsing uses no recursion.
  static Json parse(std::string_view text, const std::string& source, const Limits& limits);
  static Json parse(std::string_view text, const std::string& source) {
    return parse(text, source, Limits{});
  }
  // The same for a whole file.
  static Json parse_file(const std::string& path);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // The value as a C++ type; `what` names it in the Error when it is something else ("config.json:
  // vocab_size").
  bool as_bool(std::string_view what) const;
  int64_t as_int(std::string_view what) const;
  double as_double(std::string_view what) const;  // takes integers too
  const std::string& as_string(std::string_view what) const;
  const Array& as_array(std::string_view what) const;
  const Object& as_object(std::string_view what) const;

  // The member of an object, or nullptr when this is no object or has no such member. A linear search: for
  // small objects; large ones (a vocabulary) are iterated.
  const Json* find(std::string_view key) const;

  // Compact text: keys in order, UTF-8 as it is (not \u-escaped), shortest numbers that round-trip.
  std::string dump() const;

 private:
  template <class T>
  const T& as(std::string_view what, std::string_view expected) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace llamita
