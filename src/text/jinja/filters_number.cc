// Filters about numbers: int, float, abs, round, sum.
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/filter_table.h"
#include "text/jinja/text_ops.h"

namespace llamita::jinja {

namespace {

// A Python number literal in a string: blanks around it go, single underscores between digits too; nullopt
// when an underscore stands anywhere else.
std::optional<std::string> number_text(Runtime& runtime, const Text& text) {
  const Text bare = strip(runtime, text, nullptr, Side::both);
  std::string out;
  const auto& bytes = bare.bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != '_') {
      out += bytes[i];
      continue;
    }
    const auto alnum = [&](size_t at) {
      return at < bytes.size() && std::isalnum(static_cast<unsigned char>(bytes[at]));
    };
    if (i == 0 || !alnum(i - 1) || !alnum(i + 1)) return std::nullopt;
  }
  return out;
}

std::optional<int64_t> parse_int(Runtime& runtime, const Text& text, int64_t base) {
  const auto number = number_text(runtime, text);
  if (!number || (base != 0 && (base < 2 || base > 36))) return std::nullopt;
  std::string_view digits = *number;
  const bool negative = !digits.empty() && digits[0] == '-';
  if (negative || (!digits.empty() && digits[0] == '+')) digits.remove_prefix(1);
  const auto prefix = [&](char letter, int64_t of_base) {
    if (digits.size() < 3 || digits[0] != '0' || (digits[1] | 0x20) != letter) return;
    if (base != 0 && base != of_base) return;
    base = of_base;
    digits.remove_prefix(2);
  };
  prefix('x', 16);
  prefix('o', 8);
  prefix('b', 2);
  if (base == 0) base = 10;
  uint64_t magnitude = 0;
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, magnitude, static_cast<int>(base));
  if (result.ec == std::errc::result_out_of_range || magnitude > uint64_t{INT64_MAX} + negative) {
    fail("the integer '", *number, "' does not fit 64 bits");
  }
  if (digits.empty() || result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

std::optional<double> parse_float(Runtime& runtime, const Text& text) {
  const auto number = number_text(runtime, text);
  if (!number || number->empty()) return std::nullopt;
  std::string_view digits = *number;
  const bool negative = digits[0] == '-';
  if (negative || digits[0] == '+') digits.remove_prefix(1);
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return std::nullopt;
  double out = 0;
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, out);
  if (result.ptr != end || digits.find('(') != std::string_view::npos) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    // Too large or too small: strtod says which.
    out = std::strtod(std::string(digits).c_str(), nullptr);
  } else if (result.ec != std::errc()) {
    return std::nullopt;
  }
  return negative ? -out : out;
}

std::optional<int64_t> truncated(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) >= 9223372036854775808.0) fail("the float ", value, " does not fit a 64-bit integer");
  return static_cast<int64_t>(value);
}

Value to_int(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("int", args, {"default", "base"}, 0);
  const Value fallback = given.has(0) ? given[0] : Value::integer(0);
  if (input.is_integral()) return Value::integer(input.as_int());
  std::optional<int64_t> out;
  require_defined(input);
  if (input.is_float()) {
    out = truncated(input.as_double());
    if (std::isinf(input.as_double())) fail("cannot convert float infinity to integer");
  } else if (input.is_text()) {
    out = parse_int(runtime, input.as_text(), given.int_or(1, 10));
    if (!out) {
      if (const auto real = parse_float(runtime, input.as_text())) out = truncated(*real);
    }
  }
  return out ? Value::integer(*out) : fallback;
}

Value to_float(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("float", args, {"default"}, 0);
  require_defined(input);
  if (input.is_number()) return Value::real(input.as_double());
  if (input.is_text()) {
    if (const auto out = parse_float(runtime, input.as_text())) return Value::real(*out);
  }
  return given.has(0) ? given[0] : Value::real(0);
}

Value absolute(Runtime&, const Value& input, const CallArgs& args) {
  Arguments("abs", args, {}, 0);
  require_defined(input);
  if (!input.is_number()) fail("abs takes a number, not '", input.type_name(), "'");
  if (input.is_float()) return Value::real(std::abs(input.as_double()));
  return input.as_int() < 0 ? negate(input) : Value::integer(input.as_int());
}

// Python's round(): the exact value, ties to even.
double round_half_even(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 400) return value;
  if (digits < -400) return std::copysign(0.0, value);
  if (digits >= 0) {
    const int size = std::snprintf(nullptr, 0, "%.*f", static_cast<int>(digits), value);
    std::string text(static_cast<size_t>(size) + 1, '\0');
    std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(digits), value);
    return std::strtod(text.c_str(), nullptr);
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / unit) * unit;
}

Value round_integer(int64_t value, int64_t digits) {
  if (digits >= 0) return Value::integer(value);
  if (digits < -18) return Value::integer(0);
  int64_t unit = 1;
  for (int64_t i = 0; i < -digits; ++i) unit *= 10;
  const int64_t rest = ((value % unit) + unit) % unit;
  int64_t down;
  if (__builtin_sub_overflow(value, rest, &down)) fail("the rounded integer does not fit 64 bits");
  const bool odd = (down / unit) % 2 != 0;
  const bool up = rest > unit - rest || (rest == unit - rest && odd);
  int64_t out = down;
  if (up && __builtin_add_overflow(down, unit, &out)) fail("the rounded integer does not fit 64 bits");
  return Value::integer(out);
}

Value round_filter(Runtime&, const Value& input, const CallArgs& args) {
  const Arguments given("round", args, {"precision", "method"}, 0);
  const std::string method = given.has(1) ? given.text(1).bytes() : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail("round: method is common, ceil or floor");
  require_defined(input);
  if (!input.is_number()) fail("round takes a number, not '", input.type_name(), "'");
  const int64_t digits = given.int_or(0, 0);
  if (method == "common") {
    return input.is_float() ? Value::real(round_half_even(input.as_double(), digits))
                            : round_integer(input.as_int(), digits);
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = input.as_double() * scale;
  if (!std::isfinite(scaled)) fail("round: the number is too large");
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value sum(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("sum", args, {"attribute", "start"}, 0);
  Value total = given.has(1) ? given[1] : Value::integer(0);
  if (total.is_text()) fail("sum() cannot sum strings; use join");
  for (const Value& item : iterate(runtime, input)) {
    total = binary(runtime, "+", total, lookup_path(runtime, item, given.get(0), nullptr));
  }
  return total;
}

constexpr std::array kFilters{
    Filter{"abs", absolute},       Filter{"float", to_float}, Filter{"int", to_int},
    Filter{"round", round_filter}, Filter{"sum", sum},
};

}  // namespace

std::span<const Filter> number_filters() { return kFilters; }

}  // namespace llamita::jinja
