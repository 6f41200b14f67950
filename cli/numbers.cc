#include "cli/numbers.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

template <class Number>
bool parse_whole(std::string_view text, Number& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

std::string scaled(double value, const char* const (&units)[4], const char* separator) {
  int unit = 0;
  while (value >= 1000 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  return cat(fixed(value, unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2), separator, units[unit]);
}

}  // namespace

int64_t parse_int(std::string_view text, std::string_view what, int64_t low, int64_t high) {
  const bool kilo = !text.empty() && (text.back() == 'k' || text.back() == 'K');
  int64_t value = 0;
  const bool number = parse_whole(kilo ? text.substr(0, text.size() - 1) : text, value);
  if (!number || (kilo && __builtin_mul_overflow(value, int64_t{1024}, &value)) || value < low ||
      value > high) {
    throw Error(cat(what, ": expected a whole number from ", low, " to ", high, ", got '", text, "'"));
  }
  return value;
}

uint64_t parse_seed(std::string_view text, std::string_view what) {
  uint64_t value = 0;
  if (!parse_whole(text, value)) {
    throw Error(cat(what, ": expected a whole number from 0 to ", UINT64_MAX, ", got '", text, "'"));
  }
  return value;
}

float parse_float(std::string_view text, std::string_view what, float low, float high) {
  float value = 0;
  if (!parse_whole(text, value) || !std::isfinite(value) || value < low || value > high) {
    throw Error(cat(what, ": expected a number from ", low, " to ", high, ", got '", text, "'"));
  }
  return value;
}

std::string fixed(double value, int digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

std::string human_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB"};
  return scaled(bytes, kUnits, " ");
}

std::string human_count(double count) {
  static constexpr const char* kUnits[] = {"", "K", "M", "B"};
  return scaled(count, kUnits, "");
}

}  // namespace llamita::cli
