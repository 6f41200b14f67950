// + - * / // % ** with Python's rules. Integers are 64 bits wide; where Python would go on to larger ones,
// this fails.
#include <cmath>

#include "text/jinja/runtime.h"

namespace llamita::jinja {

namespace {

[[noreturn]] void unsupported(std::string_view op, const Value& a, const Value& b) {
  fail("'", op, "' is not supported between '", a.type_name(), "' and '", b.type_name(), "'");
}

[[noreturn]] void overflow(std::string_view op) {
  fail("an integer result of '", op, "' does not fit 64 bits");
}

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) fail("division by zero");
  if (b == -1) {
    int64_t out;
    if (__builtin_sub_overflow(int64_t{0}, a, &out)) overflow("//");
    return out;
  }
  return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

int64_t floor_mod(int64_t a, int64_t b) {
  if (b == 0) fail("division by zero");
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double floor_mod(double a, double b) {
  if (b == 0) fail("division by zero");
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return rest == 0 ? std::copysign(0.0, b) : rest;
}

double floor_div(double a, double b) {
  const double rest = floor_mod(a, b);
  const double quotient = (a - rest) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t out = 1;
  // Squaring: at most 63 rounds, and the square is only needed while bits are left.
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(out, base, &out)) overflow("**");
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow("**");
  }
  return Value::integer(out);
}

Value power(double base, double exponent) {
  if (base == 0 && exponent < 0) fail("0.0 cannot be raised to a negative power");
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) && exponent != std::floor(exponent)) {
    fail("a negative number has no real power with this exponent");
  }
  const double out = std::pow(base, exponent);
  if (std::isinf(out) && std::isfinite(base) && std::isfinite(exponent))
    fail("the power is too large for a float");
  return Value::real(out);
}

Value integers(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+" && __builtin_add_overflow(a, b, &out)) overflow(op);
  if (op == "-" && __builtin_sub_overflow(a, b, &out)) overflow(op);
  if (op == "*" && __builtin_mul_overflow(a, b, &out)) overflow(op);
  if (op == "//") return Value::integer(floor_div(a, b));
  if (op == "%") return Value::integer(floor_mod(a, b));
  if (op == "**") return power(a, b);
  if (op == "/") {
    if (b == 0) fail("division by zero");
    return Value::real(static_cast<double>(a) / static_cast<double>(b));
  }
  return Value::integer(out);
}

Value reals(std::string_view op, double a, double b) {
  if (op == "+") return Value::real(a + b);
  if (op == "-") return Value::real(a - b);
  if (op == "*") return Value::real(a * b);
  if (op == "//") return Value::real(floor_div(a, b));
  if (op == "%") return Value::real(floor_mod(a, b));
  if (op == "**") return power(a, b);
  if (b == 0) fail("division by zero");
  return Value::real(a / b);
}

// A string, list or tuple, `times` over.
Value repeat(Runtime& runtime, const Value& what, int64_t times) {
  const size_t n = times < 0 ? 0 : static_cast<size_t>(times);
  if (what.is_text()) {
    const Text& text = what.as_text();
    if (text.empty()) return what;
    if (n > kMaxText / text.size()) runtime.budget().text(kMaxText + 1);
    Text out;
    for (size_t i = 0; i < n; ++i) out.append(text);
    return runtime.text(std::move(out));
  }
  const Values& items = what.as_items();
  if (!items.empty() && n > kMaxText / sizeof(Value) / items.size()) runtime.budget().text(kMaxText + 1);
  Values out;
  out.reserve(n * items.size());
  for (size_t i = 0; !items.empty() && i < n; ++i) out.insert(out.end(), items.begin(), items.end());
  return what.is_list() ? runtime.list(std::move(out)) : runtime.tuple(std::move(out));
}

bool repeatable(const Value& value) { return value.is_text() || value.is_list() || value.is_tuple(); }

Value join(Runtime& runtime, const Value& a, const Value& b) {
  Values out = a.as_items();
  out.insert(out.end(), b.as_items().begin(), b.as_items().end());
  return a.is_list() ? runtime.list(std::move(out)) : runtime.tuple(std::move(out));
}

}  // namespace

Value binary(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  // A string before '%' takes anything, an undefined value too: it is an argument of the format.
  if (op == "%" && a.is_text()) return runtime.text(format_percent(runtime, a.as_text(), b));
  require_defined(a);
  require_defined(b);
  if (a.is_integral() && b.is_integral()) return integers(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return reals(op, a.as_double(), b.as_double());
  if (op == "+") {
    if (a.is_text() && b.is_text()) {
      Text out = a.as_text();
      out.append(b.as_text());
      return runtime.text(std::move(out));
    }
    if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) return join(runtime, a, b);
  }
  if (op == "*") {
    if (repeatable(a) && b.is_integral()) return repeat(runtime, a, b.as_int());
    if (a.is_integral() && repeatable(b)) return repeat(runtime, b, a.as_int());
  }
  unsupported(op, a, b);
}

Value negate(const Value& value) {
  require_defined(value);
  if (value.is_float()) return Value::real(-value.as_double());
  if (!value.is_integral()) fail("unary '-' is not supported for '", value.type_name(), "'");
  int64_t out;
  if (__builtin_sub_overflow(int64_t{0}, value.as_int(), &out)) overflow("-");
  return Value::integer(out);
}

Value positive(const Value& value) {
  require_defined(value);
  if (value.is_float()) return value;
  if (!value.is_integral()) fail("unary '+' is not supported for '", value.type_name(), "'");
  return Value::integer(value.as_int());
}

}  // namespace llamita::jinja
