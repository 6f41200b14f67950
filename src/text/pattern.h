// Pattern: what a normalizer replaces and a pre-tokenizer splits on: a literal string, a class of characters
// or a regular expression. Known expressions run as hand-written scanners (scanners.h); all others through
// PCRE2 with limits on steps and memory, so that no pattern from a file can hang or exhaust the process.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/scanners.h"

namespace llamita {

class Regex;  // a compiled PCRE2 expression

// A stretch [begin, end) of a text, in bytes.
struct Stretch {
  size_t begin;
  size_t end;
  bool match;
};

class Pattern {
 public:
  using CharClass = bool (*)(char32_t);

  static Pattern literal(std::string text);
  // Each character of the class is a match of its own.
  static Pattern of_class(CharClass members);
  // Throws Error naming `where` when the expression cannot be compiled.
  static Pattern regex(const std::string& source, const std::string& where);

  // Matches and what lies between them, in order, tiling `text` (valid UTF-8). Throws Error when an
  // expression exceeds its limits on this text. Thread-safe.
  std::vector<Stretch> find(std::string_view text) const;

 private:
  struct Literal {
    std::string text;
  };
  using Kind = std::variant<Literal, CharClass, Scanner, std::shared_ptr<const Regex>>;

  explicit Pattern(Kind kind) : kind_(std::move(kind)) {}

  Kind kind_;
};

}  // namespace llamita
