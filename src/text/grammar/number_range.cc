#include "text/grammar/number_range.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::grammar {

namespace {

using Expr = GrammarBuilder::Expr;

// A magnitude whole.fraction, without leading zeros (but "0") or trailing ones.
struct Decimal {
  bool negative = false;
  std::string whole = "0";
  std::string fraction;
  bool zero() const { return whole == "0" && fraction.empty(); }
};

Decimal decimal(const Json& number) {
  char buffer[1100];  // the longest double in fixed notation
  const auto end = number.is_integer() ? std::to_chars(buffer, buffer + sizeof buffer, number.as_int("bound"))
                                       : std::to_chars(buffer, buffer + sizeof buffer,
                                                       number.as_double("bound"), std::chars_format::fixed);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  Decimal out;
  if (text.front() == '-') {
    out.negative = true;
    text.remove_prefix(1);
  }
  const size_t point = text.find('.');
  out.whole = std::string(text.substr(0, point));
  if (point != std::string_view::npos) out.fraction = std::string(text.substr(point + 1));
  while (!out.fraction.empty() && out.fraction.back() == '0') out.fraction.pop_back();
  if (out.zero()) out.negative = false;
  return out;
}

// Texts of magnitudes on one side of a bound.
class Magnitudes {
 public:
  Magnitudes(GrammarBuilder& builder, bool integer, int32_t whole, int32_t fraction)
      : b_(builder), integer_(integer), whole_(whole), fraction_(fraction) {}

  Expr any() { return b_.sequence({b_.any_of({b_.bytes("0"), longer(0)}), any_fraction()}); }

  Expr at_least(const Decimal& bound, bool exclusive) {
    std::vector<Expr> options = {b_.sequence({whole_beyond(bound.whole, true), any_fraction()})};
    if (!integer_ || (bound.fraction.empty() && !exclusive)) {
      options.push_back(b_.sequence({b_.bytes(bound.whole), fraction_above(bound.fraction, exclusive)}));
    }
    return b_.any_of(std::move(options));
  }

  Expr at_most(const Decimal& bound, bool exclusive) {
    std::vector<Expr> options = {b_.sequence({whole_beyond(bound.whole, false), any_fraction()})};
    if (!integer_ || !bound.fraction.empty() || !exclusive) {
      options.push_back(b_.sequence({b_.bytes(bound.whole), fraction_below(bound.fraction, exclusive)}));
    }
    return b_.any_of(std::move(options));
  }

 private:
  Expr digits(int32_t min, int32_t max) { return b_.repeat(digit('0', '9'), min, std::max(min, max)); }
  Expr digit(char first, char last) {
    return b_.characters({{static_cast<char32_t>(first), static_cast<char32_t>(last)}});
  }
  Expr nothing() { return b_.any_of({}); }

  // Whole parts of more than `length` digits.
  Expr longer(int32_t length) {
    if (length >= whole_) return nothing();
    return b_.sequence({digit('1', '9'), digits(length, whole_ - 1)});
  }

  Expr any_fraction() {
    if (integer_ || fraction_ == 0) return b_.empty();
    return b_.optional(b_.sequence({b_.bytes("."), digits(1, fraction_)}));
  }

  // Whole parts above or below `bound`: as many digits, of which the first that differs is greater or less;
  // or more digits, or less.
  Expr whole_beyond(const std::string& bound, bool above) {
    const auto length = static_cast<int32_t>(bound.size());
    std::vector<Expr> options;
    if (above) options.push_back(longer(length));
    if (!above && length > 1) {
      options.push_back(b_.bytes("0"));
      options.push_back(b_.sequence({digit('1', '9'), digits(0, length - 2)}));
    }
    for (int32_t i = 0; i < length; ++i) {
      const char at = bound[size_t(i)];
      const char lowest = i == 0 && length > 1 ? '1' : '0';
      const char first = above ? static_cast<char>(at + 1) : lowest;
      const char last = above ? '9' : static_cast<char>(at - 1);
      if (first > last) continue;
      const int32_t rest = length - i - 1;
      options.push_back(
          b_.sequence({b_.bytes(bound.substr(0, size_t(i))), digit(first, last), digits(rest, rest)}));
    }
    return b_.any_of(std::move(options));
  }

  Expr fraction_above(const std::string& bound, bool exclusive) {
    if (integer_) return b_.empty();
    if (bound.empty() && !exclusive) return any_fraction();
    const auto length = static_cast<int32_t>(bound.size());
    std::vector<Expr> options;
    for (int32_t i = 0; i < length; ++i) {
      if (bound[size_t(i)] == '9') continue;
      options.push_back(
          b_.sequence({b_.bytes("." + bound.substr(0, size_t(i))),
                       digit(static_cast<char>(bound[size_t(i)] + 1), '9'), digits(0, fraction_ - i - 1)}));
    }
    if (!exclusive) options.push_back(b_.sequence({b_.bytes("." + bound), digits(0, fraction_ - length)}));
    for (int32_t zeros = 0; exclusive && length + zeros < fraction_; ++zeros) {
      options.push_back(b_.sequence({b_.bytes("." + bound + std::string(size_t(zeros), '0')), digit('1', '9'),
                                     digits(0, fraction_ - length - zeros - 1)}));
    }
    return b_.any_of(std::move(options));
  }

  Expr fraction_below(const std::string& bound, bool exclusive) {
    if (integer_) return b_.empty();
    const auto length = static_cast<int32_t>(bound.size());
    std::vector<Expr> options;
    if (!bound.empty() || !exclusive) options.push_back(b_.empty());
    for (int32_t i = 0; i < length; ++i) {
      const Expr equal = b_.bytes("." + bound.substr(0, size_t(i)));
      if (i > 0) options.push_back(equal);
      if (bound[size_t(i)] == '0') continue;
      options.push_back(b_.sequence(
          {equal, digit('0', static_cast<char>(bound[size_t(i)] - 1)), digits(0, fraction_ - i - 1)}));
    }
    if (!exclusive && fraction_ > 0) {
      const int32_t zeros = bound.empty() ? 1 : 0;
      options.push_back(b_.sequence(
          {b_.bytes("." + bound), b_.repeat(digit('0', '0'), zeros, std::max(zeros, fraction_ - length))}));
    }
    return b_.any_of(std::move(options));
  }

  GrammarBuilder& b_;
  bool integer_;
  int32_t whole_;     // digits at most
  int32_t fraction_;  // digits at most
};

}  // namespace

Expr number_between(GrammarBuilder& builder, NumberBound low, NumberBound high, bool integer) {
  const Decimal least = low.value ? decimal(*low.value) : Decimal{};
  const Decimal most = high.value ? decimal(*high.value) : Decimal{};
  // As many digits as the bounds have, and nine on a side without one.
  auto whole = static_cast<int32_t>(std::max(least.whole.size(), most.whole.size()));
  if (!low.value || !high.value) whole = std::max(whole, 9);
  if (integer) whole = low.value && high.value ? whole : 18;
  const int32_t fraction = integer ? 0 : std::clamp(15 - whole, 0, 15);
  if (whole > 18 || (!integer && std::max(least.fraction.size(), most.fraction.size()) > size_t(fraction))) {
    throw Error(
        "the schema bounds a number with more digits than are supported (18 for integers, 15 for others)");
  }
  Magnitudes magnitudes(builder, integer, whole, fraction);
  std::vector<Expr> options;
  if (!high.value || !most.negative) {
    Expr part = high.value ? magnitudes.at_most(most, high.exclusive) : magnitudes.any();
    if (low.value && !least.negative) part = builder.both(part, magnitudes.at_least(least, low.exclusive));
    options.push_back(part);
  }
  if (!low.value || least.negative) {
    // Below zero, where magnitudes run the other way. "-0" is left out.
    const bool bounded = high.value && most.negative;
    Expr part = magnitudes.at_least(bounded ? most : Decimal{}, !bounded || high.exclusive);
    if (low.value) part = builder.both(part, magnitudes.at_most(least, low.exclusive));
    options.push_back(builder.sequence({builder.bytes("-"), part}));
  }
  return builder.any_of(std::move(options));
}

}  // namespace llamita::grammar
