// cat("rows ", 3, " of ", name): string building for messages without a formatting library, because the
// folders from base to ops use nothing but the standard library and CUDA. Numbers are locale-free and
// round-trip.
#pragma once

#include <charconv>
#include <concepts>
#include <string>
#include <string_view>

namespace llamita {

namespace detail {

template <class T>
concept Printable =
    (std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>) || std::floating_point<T>;

inline void append(std::string& out, std::string_view text) { out.append(text); }
inline void append(std::string& out, char c) { out.push_back(c); }
// A template, because a string literal would rather become a bool than a string_view.
template <std::same_as<bool> Bool>
void append(std::string& out, Bool value) {
  out.append(value ? "true" : "false");
}

template <Printable Number>
void append(std::string& out, Number value) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  out.append(buffer, end.ptr);
}

}  // namespace detail

template <class... Parts>
std::string cat(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

}  // namespace llamita
