#include "text/scanners.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "text/unicode.h"

namespace llamita {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kQwen35Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kO200kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

// What the patterns ask about a character, one bit each.
enum Class : uint8_t {
  kLetter = 1,
  kNumber = 2,
  kSpace = 4,
  kNewline = 8,  // \r or \n; these are kSpace too
  kMark = 16,
  kUpper = 32,  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
  kLower = 64,  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
};

uint8_t classify(char32_t c) {
  using unicode::Category;
  if (c == '\r' || c == '\n') return kSpace | kNewline;
  if (unicode::is_space(c)) return kSpace;
  const Category kind = unicode::category(c);
  if (kind == Category::Lu || kind == Category::Lt) return kLetter | kUpper;
  if (kind == Category::Ll) return kLetter | kLower;
  if (kind == Category::Lm || kind == Category::Lo) return kLetter | kUpper | kLower;
  if (unicode::is_mark(c)) return kMark | kUpper | kLower;
  if (unicode::is_number(c)) return kNumber;
  return 0;
}

const std::array<uint8_t, 128> kAscii = [] {
  std::array<uint8_t, 128> table{};
  for (char32_t c = 0; c < 128; ++c) table[c] = classify(c);
  return table;
}();

struct Char {
  uint8_t kind = 0;
  uint32_t length = 0;  // 0 at the end of the text

  bool is(uint8_t classes) const { return (kind & classes) != 0; }
  bool end() const { return length == 0; }
};

Char char_at(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 128) return {kAscii[byte], 1};
  const auto [c, length] = unicode::decode(text, at);
  return {classify(c), length};
}

// The end of the longest run from `at` of characters that have one of the classes, of at most `limit`
// characters.
size_t run(std::string_view text, size_t at, uint8_t classes, size_t limit = SIZE_MAX) {
  for (; limit > 0; --limit) {
    const Char next = char_at(text, at);
    if (next.end() || !next.is(classes)) break;
    at += next.length;
  }
  return at;
}

size_t run_without(std::string_view text, size_t at, uint8_t classes) {
  for (Char next = char_at(text, at); !next.end() && !next.is(classes); next = char_at(text, at)) {
    at += next.length;
  }
  return at;
}

// 's 't 're 've 'm 'll 'd: the end of one at `at`, or `at`. Folding case makes U+017F (long s) an s.
size_t contraction(std::string_view text, size_t at, bool fold) {
  if (text[at] != '\'' || at + 1 >= text.size()) return at;
  const auto lower = [&](size_t i) -> char {
    if (i >= text.size()) return 0;
    return fold && text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] | 0x20) : text[i];
  };
  const char first = lower(at + 1), second = lower(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if (first == 'r' && second == 'e') return at + 3;
  if (first == 'v' && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (fold && text.substr(at + 1, 2) == "\u017F") return at + 3;
  return at;
}

// \s+(?!\S)|\s+ at a space: all of the run but its last character when something follows it.
size_t spaces(std::string_view text, size_t at) {
  const size_t end = run(text, at, kSpace);
  if (end == text.size()) return end;
  const size_t last = end - unicode::decode_before(text, end).length;
  return last > at ? last : end;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at a space: up to the last newline of the run, if it has one.
size_t newlines_or_spaces(std::string_view text, size_t at) {
  size_t after_newline = at;
  for (size_t i = at;;) {
    const Char next = char_at(text, i);
    if (next.end() || !next.is(kSpace)) break;
    i += next.length;
    if (next.is(kNewline)) after_newline = i;
  }
  return after_newline > at ? after_newline : spaces(text, at);
}

size_t scan_gpt2(std::string_view text, size_t at) {
  if (const size_t end = contraction(text, at, false); end > at) return end;
  Char next = char_at(text, at);
  size_t start = at;
  if (text[at] == ' ') {
    const Char second = char_at(text, at + 1);
    if (second.end() || second.is(kSpace)) return spaces(text, at);
    next = second;
    ++start;
  }
  if (next.is(kSpace)) return spaces(text, at);
  if (next.is(kLetter)) return run(text, start, kLetter);
  if (next.is(kNumber)) return run(text, start, kNumber);
  return run_without(text, start, kSpace | kLetter | kNumber);
}

// The part that all newer patterns share: numbers by `digits`, then symbols with the newlines (and, with
// `slashes`, the slashes) after them, then spaces. `word` are the classes that symbols are not made of.
template <size_t digits, bool slashes, uint8_t word>
size_t scan_rest(std::string_view text, size_t at) {
  const Char first = char_at(text, at);
  if (first.is(kNumber)) return run(text, at, kNumber, digits);
  const size_t start = text[at] == ' ' ? at + 1 : at;
  size_t end = run_without(text, start, kSpace | kNumber | word);
  if (end == start) return newlines_or_spaces(text, at);
  while (end < text.size() && (text[end] == '\r' || text[end] == '\n' || (slashes && text[end] == '/')))
    ++end;
  return end;
}

// Llama 3 and Qwen: a word is letters (Qwen 3.5: and marks) with at most one other character before them.
template <size_t digits, uint8_t word>
size_t scan_llama3(std::string_view text, size_t at) {
  if (const size_t end = contraction(text, at, true); end > at) return end;
  const Char first = char_at(text, at);
  if (!first.is(kLetter | kNumber | kNewline)) {
    const size_t start = at + first.length;
    if (const size_t end = run(text, start, word); end > start) return end;
  }
  if (first.is(word)) return run(text, at, word);
  return scan_rest<digits, false, word>(text, at);
}

// [upper]*[lower]+ from `start`: its end, or `start` when it does not match. Caseless letters and marks are
// both upper and lower; when no lower character follows the upper run, the run gives back what comes after
// its own last caseless character.
size_t upper_then_lower(std::string_view text, size_t start) {
  size_t after_both = start, at = start;
  for (Char next = char_at(text, at); !next.end() && next.is(kUpper); next = char_at(text, at)) {
    at += next.length;
    if (next.is(kLower)) after_both = at;
  }
  const size_t end = run(text, at, kLower);
  return end > at ? end : after_both;
}

// Tekken and o200k: words split where upper case begins anew.
template <size_t digits, bool contractions>
size_t scan_cased(std::string_view text, size_t at) {
  const auto tail = [&](size_t end) {
    return contractions && end < text.size() ? contraction(text, end, true) : end;
  };
  const Char first = char_at(text, at);
  const bool prefix = !first.is(kLetter | kNumber | kNewline);
  const size_t start = prefix ? at + first.length : at;
  if (const size_t end = upper_then_lower(text, start); end > start) return tail(end);
  if (prefix) {
    if (const size_t end = upper_then_lower(text, at); end > at) return tail(end);
  }
  // Only an upper run without lower characters is left for the second alternative.
  if (const size_t end = run(text, start, kUpper); end > start) return tail(end);
  return scan_rest<digits, true, kLetter>(text, at);
}

struct Known {
  std::string_view pattern;
  Scanner scanner;
};

}  // namespace

Scanner find_scanner(std::string_view pattern) {
  const Known known[] = {
      {kGpt2Pattern, scan_gpt2},
      {kLlama3Pattern, scan_llama3<3, kLetter>},
      {kQwen2Pattern, scan_llama3<1, kLetter>},
      {kQwen35Pattern, scan_llama3<1, kLetter | kMark>},
      {kTekkenPattern, scan_cased<1, false>},
      {kO200kPattern, scan_cased<3, true>},
  };
  const auto* found = std::find_if(std::begin(known), std::end(known),
                                   [&](const Known& entry) { return entry.pattern == pattern; });
  return found == std::end(known) ? nullptr : found->scanner;
}

}  // namespace llamita
