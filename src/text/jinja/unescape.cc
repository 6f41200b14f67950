// String literals have Python's escapes.
#include <charconv>
#include <cstdio>

#include "text/jinja/budget.h"
#include "text/jinja/token.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

// Exactly `n` hex digits at `at`; false when they are not there.
bool hex(std::string_view text, size_t at, size_t n, uint32_t& out) {
  if (at + n > text.size()) return false;
  const char* end = text.data() + at + n;
  const auto result = std::from_chars(text.data() + at, end, out, 16);
  return result.ec == std::errc() && result.ptr == end;
}

// A backslash keeps meaning nothing before a character beyond ASCII, which Python then spells out.
std::string spelled(uint32_t code) {
  char buffer[16];
  const char* format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";
  const int n = std::snprintf(buffer, sizeof buffer, format, code);
  return std::string(buffer, static_cast<size_t>(n));
}

}  // namespace

std::string unescape(std::string_view literal, int line, int column) {
  constexpr std::string_view kNames = "\\'\"abfnrtv";
  constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  for (size_t i = 0; i < literal.size();) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out += literal[i++];
      continue;
    }
    const auto [code, size] = unicode::decode(literal, i + 1);
    const char c = code < 0x80 ? static_cast<char>(code) : '\0';
    i += 1 + size;
    uint32_t value = 0;
    if (c == '\n') continue;
    if (const size_t name = kNames.find(c); c && name != std::string_view::npos) {
      out += kValues[name];
    } else if (c >= '0' && c <= '7') {
      value = static_cast<uint32_t>(c - '0');
      for (int more = 0; more < 2 && i < literal.size() && literal[i] >= '0' && literal[i] <= '7'; ++more) {
        value = value * 8 + static_cast<uint32_t>(literal[i++] - '0');
      }
      unicode::encode(value, out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      if (!hex(literal, i, digits, value)) fail_at(line, column, "the string has a broken \\x or \\u escape");
      if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
        fail_at(line, column, "the string has an escape that is no Unicode character");
      }
      unicode::encode(value, out);
      i += digits;
    } else if (c == 'N') {
      fail_at(line, column, "the escape \\N{…} is not supported; write the character itself");
    } else {
      out += '\\';
      out += c ? std::string(1, c) : spelled(code);
    }
  }
  return out;
}

}  // namespace llamita::jinja
