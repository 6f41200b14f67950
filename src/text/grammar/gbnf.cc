#include "text/grammar/gbnf.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/cat.h"
#include "formats/utf8.h"
#include "llamita/error.h"
#include "text/grammar/grammar_builder.h"
#include "text/unicode.h"

namespace llamita::grammar {

namespace {

constexpr size_t kMaxBytes = 64 << 10;
constexpr int kMaxGroups = 64;
constexpr int32_t kMaxCount = 100'000;

using Expr = GrammarBuilder::Expr;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::shared_ptr<const Grammar> run() {
    for (skip(true); at_ < text_.size(); skip(true)) rule();
    for (const auto& [name, known] : rules_) {
      if (!builder_.defined(known.id)) {
        fail(known.line,
             cat("rule '", name, "' is used here and defined nowhere: define it with ", name, " ::= ..."));
      }
    }
    const auto root = rules_.find("root");
    if (root == rules_.end())
      throw Error("the grammar has no rule 'root', which stands for the whole text: add root ::= ...");
    return builder_.build(root->second.id);
  }

 private:
  struct Known {
    int id;
    int line;
  };

  [[noreturn]] static void fail(int line, const std::string& what) {
    throw Error(cat("grammar, line ", line, ": ", what));
  }
  [[noreturn]] void fail(const std::string& what) const { fail(line_, what); }

  bool at_end() const { return at_ >= text_.size(); }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool take(char c) {
    if (at_end() || peek() != c) return false;
    ++at_;
    return true;
  }

  // White space and comments; line ends too where `lines`.
  void skip(bool lines) {
    while (!at_end()) {
      const char c = peek();
      if (c == '#') {
        while (!at_end() && peek() != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        if (c == '\n') ++line_;
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string name() {
    const size_t begin = at_;
    while (!at_end() && is_name(peek())) ++at_;
    if (at_ == begin) fail("expected the name of a rule (letters, digits, '-', '_')");
    return std::string(text_.substr(begin, at_ - begin));
  }

  int rule_id(const std::string& name) {
    const auto place = rules_.find(name);
    if (place != rules_.end()) return place->second.id;
    const int id = builder_.declare(name, true);
    rules_.emplace(name, Known{id, line_});
    return id;
  }

  void rule() {
    const std::string left = name();
    const int id = rule_id(left);
    if (builder_.defined(id)) fail(cat("rule '", left, "' is defined a second time"));
    skip(false);
    if (text_.substr(at_, 3) != "::=") fail(cat("expected '::=' after rule name '", left, "'"));
    at_ += 3;
    skip(true);
    builder_.define(id, alternatives(0));
    if (!at_end() && peek() != '\n' && peek() != '\r')
      fail(cat("unexpected '", peek(), "' in rule '", left, "'"));
  }

  // Outside of groups a line end ends the rule, unless the next line goes on with '|'.
  bool more_alternatives(int depth) {
    skip(depth > 0);
    const auto [at, line] = std::pair(at_, line_);
    skip(true);
    if (take('|')) {
      skip(true);
      return true;
    }
    std::tie(at_, line_) = std::pair(at, line);
    return false;
  }

  Expr alternatives(int depth) {
    if (depth > kMaxGroups) fail(cat("groups are nested deeper than ", kMaxGroups, ": move some into rules"));
    std::vector<Expr> options;
    do {
      options.push_back(sequence(depth));
    } while (more_alternatives(depth));
    return builder_.any_of(std::move(options));
  }

  Expr sequence(int depth) {
    std::vector<Expr> parts;
    for (skip(depth > 0);; skip(depth > 0)) {
      const char c = peek();
      Expr part;
      if (take('"')) {
        part = literal();
      } else if (take('[')) {
        part = character_class();
      } else if (take('.')) {
        part = builder_.characters({{0, kLastCodePoint}});
      } else if (take('(')) {
        part = alternatives(depth + 1);
        skip(true);
        if (!take(')')) fail("expected ')' at the end of a group");
      } else if (!at_end() && is_name(c)) {
        part = builder_.call(rule_id(name()));
      } else {
        break;
      }
      parts.push_back(repeated(part));
    }
    return parts.empty() ? builder_.empty() : builder_.sequence(std::move(parts));
  }

  Expr repeated(Expr part) {
    for (;;) {
      if (take('?')) {
        part = builder_.optional(part);
      } else if (take('*')) {
        part = builder_.repeat(part, 0, kUnbounded);
      } else if (take('+')) {
        part = builder_.repeat(part, 1, kUnbounded);
      } else if (take('{')) {
        skip(false);
        const int32_t min = count();
        int32_t max = min;
        skip(false);
        if (take(',')) {
          skip(false);
          max = peek() == '}' ? kUnbounded : count();
        }
        skip(false);
        if (!take('}')) fail("expected '}' at the end of a repeat count");
        if (max < min) fail(cat("a repeat of at least ", min, " and at most ", max, " is impossible"));
        part = builder_.repeat(part, min, max);
      } else {
        return part;
      }
    }
  }

  int32_t count() {
    int32_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0 || value > kMaxCount)
      fail(cat("expected a repeat count of 0 to ", kMaxCount));
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  Expr literal() {
    std::string bytes;
    while (!take('"')) {
      if (at_end() || peek() == '\n') fail("a literal has no '\"' at its end");
      append_utf8(bytes, character());
    }
    return builder_.bytes(bytes);
  }

  Expr character_class() {
    const bool negated = take('^');
    CodePoints set;
    while (!take(']')) {
      if (at_end() || peek() == '\n') fail("a character class has no ']' at its end");
      const char32_t first = character();
      char32_t last = first;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        last = character();
        if (last < first) fail("a range in a character class ends before it begins");
      }
      set.push_back({first, last});
    }
    set = normalized(std::move(set));
    return builder_.characters(negated ? complement(set) : std::move(set));
  }

  char32_t character() {
    if (at_end()) fail("the text ends inside a literal or a class");
    if (take('\\')) return escape();
    if (utf8_length(text_.substr(at_)) == 0) fail("the text is not valid UTF-8");
    const auto [c, length] = unicode::decode(text_, at_);
    at_ += length;
    return c;
  }

  char32_t escape() {
    const char c = peek();
    ++at_;
    switch (c) {
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case 'x': return hex(2);
      case 'u': return hex(4);
      case 'U': return hex(8);
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^': return static_cast<char32_t>(c);
      default:
        fail(cat("the escape '\\", c, "' is none of \\n \\r \\t \\x \\u \\U \\\\ \\\" \\[ \\] \\- \\^"));
    }
  }

  char32_t hex(size_t digits) {
    uint32_t value = 0;
    const std::string_view part = text_.substr(std::min(at_, text_.size()), digits);
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value, 16);
    if (error != std::errc() || part.size() != digits || end != part.data() + digits) {
      fail(cat("expected ", digits, " hexadecimal digits after the backslash escape"));
    }
    if (value > kLastCodePoint || (value >= 0xD800 && value <= 0xDFFF))
      fail("an escape names no Unicode character");
    at_ += digits;
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  GrammarBuilder builder_;
  std::map<std::string, Known> rules_;
};

}  // namespace

std::shared_ptr<const Grammar> parse_gbnf(std::string_view text) {
  if (text.size() > kMaxBytes)
    throw Error(cat("the grammar has ", text.size(), " bytes; at most ", kMaxBytes, " are allowed"));
  return Parser(text).run();
}

}  // namespace llamita::grammar
