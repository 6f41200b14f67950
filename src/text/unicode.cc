#include "text/unicode.h"

namespace llamita::unicode {

bool is_word(char32_t c) {
  const Category kind = category(c);
  if (between(kind, Category::Lu, Category::Nl) || kind == Category::Pc) return true;
  if (c == 0x200C || c == 0x200D) return true;  // joiners
  // Enclosed letters are symbols that are Alphabetic.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

void append(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::string to_utf8(char32_t c) {
  std::string out;
  append(out, c);
  return out;
}

Sequence sequence_at(std::string_view bytes, size_t at) {
  const auto first = static_cast<unsigned char>(bytes[at]);
  if (first < 0x80) return {1, true, false};
  // The second byte's range is narrower after four first bytes: no overlong forms, surrogates or code points
  // above U+10FFFF (Unicode, table 3-7).
  unsigned char low = 0x80, high = 0xBF;
  uint32_t length = 0;
  if (first >= 0xC2 && first <= 0xDF) length = 2;
  if (first >= 0xE0 && first <= 0xEF) length = 3;
  if (first >= 0xF0 && first <= 0xF4) length = 4;
  if (length == 0) return {1, false, false};
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  for (uint32_t i = 1; i < length; ++i) {
    if (at + i >= bytes.size()) return {i, false, true};
    const auto byte = static_cast<unsigned char>(bytes[at + i]);
    if (byte < low || byte > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

bool is_valid(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const Sequence next = sequence_at(bytes, at);
    if (!next.valid) return false;
    at += next.length;
  }
  return true;
}

void append_lossy(std::string& out, std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const Sequence next = sequence_at(bytes, at);
    if (next.valid) {
      out.append(bytes.substr(at, next.length));
    } else {
      out.append("\uFFFD");
    }
    at += next.length;
  }
}

}  // namespace llamita::unicode
