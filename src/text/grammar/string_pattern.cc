#include "text/grammar/string_pattern.h"

#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "base/cat.h"
#include "formats/utf8.h"
#include "llamita/error.h"
#include "text/unicode.h"

namespace llamita::grammar {

namespace {

constexpr int kMaxGroups = 64;
constexpr int32_t kMaxCount = 10'000;

using Expr = GrammarBuilder::Expr;

const CodePoints& digits() {
  static const CodePoints set = {{'0', '9'}};
  return set;
}
const CodePoints& word() {
  static const CodePoints set = normalized({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
  return set;
}
const CodePoints& space() {
  static const CodePoints set = normalized({{'\t', '\r'},
                                            {' ', ' '},
                                            {0xA0, 0xA0},
                                            {0x1680, 0x1680},
                                            {0x2000, 0x200A},
                                            {0x2028, 0x2029},
                                            {0x202F, 0x202F},
                                            {0x205F, 0x205F},
                                            {0x3000, 0x3000},
                                            {0xFEFF, 0xFEFF}});
  return set;
}

class PatternParser {
 public:
  PatternParser(GrammarBuilder& builder, JsonText& json, std::string_view text)
      : b_(builder), json_(json), text_(text) {}

  Expr run() {
    std::vector<Expr> options;
    do {
      std::vector<Expr> parts;
      if (!take('^')) parts.push_back(anything());
      parts.push_back(sequence(0));
      if (!take('$')) parts.push_back(anything());
      options.push_back(b_.sequence(std::move(parts)));
    } while (take('|'));
    if (!at_end()) fail(cat("unexpected '", peek(), "'"));
    return b_.any_of(std::move(options));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(cat("the schema's pattern '", text_.substr(0, 80), "', offset ", at_, ": ", what));
  }
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool take(std::string_view sign) {
    if (text_.substr(std::min(at_, text_.size()), sign.size()) != sign) return false;
    at_ += sign.size();
    return true;
  }
  bool take(char c) { return take(std::string_view(&c, 1)); }

  Expr one_of(const CodePoints& set) { return json_.characters(set); }
  Expr anything() { return b_.repeat(one_of(complement({})), 0, kUnbounded); }

  Expr alternatives(int depth) {
    std::vector<Expr> options;
    do {
      options.push_back(sequence(depth));
    } while (take('|'));
    return b_.any_of(std::move(options));
  }

  Expr sequence(int depth) {
    std::vector<Expr> parts;
    while (!at_end() && peek() != '|' && peek() != ')' && peek() != '$')
      parts.push_back(quantified(atom(depth)));
    if (peek() == '$' && depth > 0)
      fail("'$' inside of a group is not supported: put it at the end of the pattern");
    return parts.empty() ? b_.empty() : b_.sequence(std::move(parts));
  }

  Expr atom(int depth) {
    if (take('(')) return group(depth + 1);
    if (take('[')) return one_of(character_class());
    if (take('.')) return one_of(complement(normalized({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}})));
    if (peek() == '^') fail("'^' is supported only at the beginning of the pattern");
    if (peek() == '*' || peek() == '+' || peek() == '?')
      fail("a repeat follows nothing that could be repeated");
    return one_of(set_or_character(false));
  }

  Expr group(int depth) {
    if (depth > kMaxGroups) fail(cat("groups are nested deeper than ", kMaxGroups));
    if (take('?')) {
      if (take("<") && peek() != '=' && peek() != '!') {
        while (!at_end() && peek() != '>') ++at_;
        if (!take('>')) fail("a group's name has no '>' at its end");
      } else if (!take(':')) {
        fail("look-around is not supported");
      }
    }
    const Expr inside = alternatives(depth);
    if (!take(')')) fail("expected ')' at the end of a group");
    return inside;
  }

  Expr quantified(Expr expr) {
    int32_t min = 1, max = 1;
    if (take('?')) {
      min = 0;
    } else if (take('*')) {
      min = 0, max = kUnbounded;
    } else if (take('+')) {
      max = kUnbounded;
    } else if (take('{')) {
      min = max = count();
      if (take(',')) max = peek() == '}' ? kUnbounded : count();
      if (!take('}')) fail("expected '}' at the end of a repeat count");
      if (max < min) fail("a repeat's maximum is below its minimum");
    } else {
      return expr;
    }
    take('?');  // lazy: the same texts
    if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')
      fail("a repeat follows another repeat");
    return b_.repeat(expr, min, max);
  }

  int32_t count() {
    int32_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0 || value > kMaxCount)
      fail(cat("expected a repeat count of 0 to ", kMaxCount));
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  CodePoints character_class() {
    const bool negated = take('^');
    CodePoints set;
    while (!take(']')) {
      if (at_end()) fail("a character class has no ']' at its end");
      const CodePoints first = set_or_character(true);
      const bool single = first.size() == 1 && first[0].first == first[0].last;
      if (single && peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        const CodePoints last = set_or_character(true);
        if (last.size() != 1 || last[0].first != last[0].last || last[0].first < first[0].first) {
          fail("a range in a character class has no proper end");
        }
        set.push_back({first[0].first, last[0].first});
      } else {
        set.insert(set.end(), first.begin(), first.end());
      }
    }
    set = normalized(std::move(set));
    return negated ? complement(set) : set;
  }

  CodePoints set_or_character(bool in_class) {
    if (at_end()) fail("the pattern ends too early");
    if (take('\\')) return escape(in_class);
    if (utf8_length(text_.substr(at_)) == 0) fail("the pattern is not valid UTF-8");
    const auto [c, length] = unicode::decode(text_, at_);
    at_ += length;
    return {{c, c}};
  }

  CodePoints escape(bool in_class) {
    if (at_end()) fail("the pattern ends with a backslash");
    const char c = text_[at_++];
    const auto one = [](char32_t value) { return CodePoints{{value, value}}; };
    switch (c) {
      case 'd': return digits();
      case 'D': return complement(digits());
      case 'w': return word();
      case 'W': return complement(word());
      case 's': return space();
      case 'S': return complement(space());
      case 'n': return one('\n');
      case 'r': return one('\r');
      case 't': return one('\t');
      case 'f': return one('\f');
      case 'v': return one('\v');
      case '0': return one(0);
      case 'x': return one(hex(2));
      case 'u': return one(take('{') ? hex(0) : hex(4));
      case 'b':
        if (in_class) return one('\b');
        break;
      default: break;
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9');
    if (letter || static_cast<unsigned char>(c) >= 0x80)
      fail(cat("the escape '\\", letter ? std::string(1, c) : "", "' is not supported"));
    return one(static_cast<char32_t>(c));
  }

  // `length` digits, or up to '}' for 0.
  char32_t hex(size_t length) {
    uint32_t value = 0;
    const char* begin = text_.data() + at_;
    const char* limit =
        length == 0 ? text_.data() + text_.size() : begin + std::min(length, text_.size() - at_);
    const auto [end, error] = std::from_chars(begin, limit, value, 16);
    if (error != std::errc() || (length != 0 && end != begin + length)) fail("expected hexadecimal digits");
    at_ = static_cast<size_t>(end - text_.data());
    if (length == 0 && !take('}')) fail("expected '}' after hexadecimal digits");
    if (value > kLastCodePoint || (value >= 0xD800 && value <= 0xDFFF))
      fail("an escape names no Unicode character");
    return value;
  }

  GrammarBuilder& b_;
  JsonText& json_;
  std::string_view text_;
  size_t at_ = 0;
};

#define DATE                                                                                                \
  "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-" \
  "9]|"                                                                                                     \
  "1\\d|2[0-8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define TIME "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration",
     "^P(?:\\d{1,9}W|(?:\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?|\\d{1,9}M(?:\\d{1,9}D)?|\\d{1,9}D)(?:T(?:\\d{1,"
     "9}H(?:"
     "\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S))?|T(?:\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)"
     "?|"
     "\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S))$"},
    {"email", "^[A-Za-z0-9_+-]{1,20}(?:\\.[A-Za-z0-9_+-]{1,20}){0,2}@" LABEL "(?:\\." LABEL "){1,2}$"},
    {"hostname", "^" LABEL "(?:\\." LABEL "){0,2}$"},
    {"ipv4", "^" OCTET "(?:\\." OCTET "){3}$"},
    {"ipv6", "^(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$|^::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,5})?$"},
    {"uri",
     "^[A-Za-z][A-Za-z0-9+.-]{0,15}:(?://)?[A-Za-z0-9._~:?#@!$&'()*+,;=-][A-Za-z0-9._~:/"
     "?@!$&'()*+,;=-]{0,255}$"},
    {"uuid", "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
};

#undef DATE
#undef TIME
#undef LABEL
#undef OCTET

}  // namespace

Expr string_pattern(GrammarBuilder& builder, JsonText& json, std::string_view pattern) {
  return PatternParser(builder, json, pattern).run();
}

std::string_view format_pattern(std::string_view format) {
  std::string names;
  for (const auto& [name, pattern] : kFormats) {
    if (name == format) return pattern;
    names += cat(names.empty() ? "" : ", ", name);
  }
  throw Error(cat("the schema's format '", format.substr(0, 64), "' is not supported; known are ", names,
                  ": use a pattern"));
}

}  // namespace llamita::grammar
