// Unicode as the tokenizers need it: UTF-8 in and out, and classes of code points by general category
// (Unicode 16.0, the version inside Hugging Face's tokenizers; see scripts/make_unicode_tables.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace llamita::unicode {

// The order is that of the generated table.
enum class Category : uint8_t {
  Cn,
  Lu,
  Ll,
  Lt,
  Lm,
  Lo,
  Mn,
  Mc,
  Me,
  Nd,
  Nl,
  No,
  Pc,
  Pd,
  Ps,
  Pe,
  Pi,
  Pf,
  Po,
  Sm,
  Sc,
  Sk,
  So,
  Zs,
  Zl,
  Zp,
  Cc,
  Cf,
  Cs,
  Co,
};

extern const uint16_t kCategoryBlock[];  // of each block of 128 code points
extern const uint8_t kCategory[];

inline Category category(char32_t c) {
  if (c >= 0x110000) return Category::Cn;
  return static_cast<Category>(kCategory[size_t{kCategoryBlock[c >> 7]} << 7 | (c & 127)]);
}

inline bool between(Category value, Category first, Category last) { return value >= first && value <= last; }
inline bool is_letter(char32_t c) { return between(category(c), Category::Lu, Category::Lo); }
inline bool is_mark(char32_t c) { return between(category(c), Category::Mn, Category::Me); }
inline bool is_number(char32_t c) { return between(category(c), Category::Nd, Category::No); }
inline bool is_punctuation(char32_t c) { return between(category(c), Category::Pc, Category::Po); }

// The White_Space property: \s of the patterns.
inline bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || between(category(c), Category::Zs, Category::Zp);
}

// \w of Hugging Face's added tokens: letters, marks, digits, connectors, joiners.
bool is_word(char32_t c);

struct Decoded {
  char32_t c;
  uint32_t length;  // bytes
};

// The character at `at` of valid UTF-8 (at < text.size()).
inline Decoded decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

// The character that ends at `end` of valid UTF-8 (end > 0).
inline Decoded decode_before(std::string_view text, size_t end) {
  size_t start = end - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return decode(text, start);
}

void append(std::string& out, char32_t c);
std::string to_utf8(char32_t c);

// What stands at `at` of any bytes: a whole character (valid), a maximal part of one that can no longer
// become one (not valid), or one that the end of the text cuts off (not valid, `truncated`).
struct Sequence {
  uint32_t length;
  bool valid;
  bool truncated;
};
Sequence sequence_at(std::string_view bytes, size_t at);

bool is_valid(std::string_view bytes);

// Appends `bytes` with U+FFFD for each maximal part of a broken character, as Python's errors="replace" and
// Rust's from_utf8_lossy have it.
void append_lossy(std::string& out, std::string_view bytes);

}  // namespace llamita::unicode
