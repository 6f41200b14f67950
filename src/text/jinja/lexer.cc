#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "text/jinja/budget.h"
#include "text/jinja/token.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

using Kind = Token::Kind;

// One kind of newline, and none at the very end: what Jinja does before anything else.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_data();
    push(Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(std::string_view message) {
    advance_to(at_);
    fail_at(line_, column_, message);
  }

  // Line and column are counted up to `offset` once, in order.
  void advance_to(size_t offset) {
    for (; counted_ < offset; ++counted_) {
      if (source_[counted_] == '\n') {
        ++line_;
        column_ = 1;
      } else if ((static_cast<unsigned char>(source_[counted_]) & 0xC0) != 0x80) {
        ++column_;
      }
    }
  }

  Token& push(Kind kind, std::string text) {
    advance_to(at_);
    tokens_.push_back(Token{.kind = kind, .text = std::move(text), .line = line_, .column = column_});
    return tokens_.back();
  }

  bool looking_at(std::string_view text) const {
    return std::string_view(source_).substr(at_, text.size()) == text;
  }

  void skip_space() {
    while (at_ < source_.size()) {
      const auto [code, size] = unicode::decode(source_, at_);
      if (!unicode::is_space(code)) return;
      at_ += size;
    }
  }

  // Where the next tag begins, or the end.
  size_t next_tag(size_t from) const {
    for (size_t brace = source_.find('{', from); brace != std::string::npos;
         brace = source_.find('{', brace + 1)) {
      const char next = brace + 1 < source_.size() ? source_[brace + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return brace;
    }
    return source_.size();
  }

  // The text before a tag, with the whitespace gone that the tag's sign or lstrip_blocks takes away.
  std::string_view text_before(size_t tag, char sign, bool strips_line) const {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') return text.substr(0, stripped_size(text));
    if (sign == '+' || !strips_line) return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    const bool whole_line = line > 0 || line_starting_;
    return whole_line && stripped_size(text.substr(line)) == 0 ? text.substr(0, line) : text;
  }

  static size_t stripped_size(std::string_view text) {
    size_t end = 0;
    for (size_t i = 0; i < text.size();) {
      const auto [code, size] = unicode::decode(text, i);
      i += size;
      if (!unicode::is_space(code)) end = i;
    }
    return end;
  }

  void lex_data() {
    const size_t tag = next_tag(at_);
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const bool signed_tag = sign == '-' || sign == '+';
    const bool output = tag < source_.size() && source_[tag + 1] == '{';
    const auto text = tag == source_.size() ? std::string_view(source_).substr(at_)
                                            : text_before(tag, signed_tag ? sign : '\0', !output);
    if (!text.empty()) push(Kind::data, std::string(text));
    at_ = tag;
    if (tag == source_.size()) return;
    const char kind = source_[tag + 1];
    const size_t inside = tag + (signed_tag ? 3 : 2);
    if (kind == '#') return lex_comment(inside);
    if (kind == '%' && lex_raw(inside)) return;
    push(output ? Kind::output_begin : Kind::block_begin, "");
    at_ = inside;
    lex_tag(output);
  }

  // After a closing tag: '-' takes the whitespace that follows, a plain block takes one newline.
  void close(char sign, bool takes_newline) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && takes_newline && looking_at("\n")) {
      ++at_;
    }
    line_starting_ = source_[at_ - 1] == '\n';
  }

  void lex_comment(size_t inside) {
    const size_t end = source_.find("#}", inside);
    if (end == std::string::npos) fail_here("this comment is never closed by '#}'");
    const char before = end > inside ? source_[end - 1] : '\0';
    at_ = end + 2;
    close(before, true);
  }

  // {% raw %} … {% endraw %}; false when this block is another statement.
  bool lex_raw(size_t inside) {
    const size_t tag = at_;
    at_ = inside;
    skip_space();
    const bool raw = looking_at("raw");
    if (raw) {
      at_ += 3;
      skip_space();
    }
    const bool strips = looking_at("-%}");
    if (!raw || (!strips && !looking_at("%}"))) {
      at_ = tag;
      return false;
    }
    at_ += strips ? 3 : 2;
    if (strips) skip_space();
    line_starting_ = source_[at_ - 1] == '\n';
    lex_raw_body(tag);
    return true;
  }

  void lex_raw_body(size_t opened) {
    const size_t body = at_;
    for (size_t tag = source_.find("{%", body); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      at_ = tag + 2;
      const char sign = at_ < source_.size() ? source_[at_] : '\0';
      if (sign == '-' || sign == '+') ++at_;
      skip_space();
      if (!looking_at("endraw")) continue;
      at_ += 6;
      skip_space();
      const char last = at_ < source_.size() ? source_[at_] : '\0';
      if (last == '-' || last == '+') ++at_;
      if (!looking_at("%}")) continue;
      const size_t end = at_ + 2;
      at_ = body;
      const auto text = text_before(tag, sign, true);
      if (!text.empty()) push(Kind::data, std::string(text));
      at_ = end;
      return close(last, true);
    }
    at_ = opened;
    fail_here("this raw block is never closed by '{% endraw %}'");
  }

  // The inside of {{ … }} or {% … %}.
  void lex_tag(bool output) {
    const size_t opened = tokens_.size() - 1;
    brackets_.clear();
    while (true) {
      if (brackets_.empty() && lex_tag_end(output)) return;
      if (at_ == source_.size()) {
        fail_at(tokens_[opened].line, tokens_[opened].column, "this tag is never closed");
      }
      const auto [code, size] = unicode::decode(source_, at_);
      if (unicode::is_space(code)) {
        at_ += size;
      } else if (code < 0x80 && is_digit(static_cast<char>(code))) {
        lex_number();
      } else if (unicode::is_name_start(code)) {
        lex_name();
      } else if (code == '\'' || code == '"') {
        lex_string(static_cast<char>(code));
      } else {
        lex_operator();
      }
    }
  }

  bool lex_tag_end(bool output) {
    const std::string_view end = output ? "}}" : "%}";
    char sign = at_ < source_.size() ? source_[at_] : '\0';
    if (sign != '-' && (sign != '+' || output)) sign = '\0';
    const size_t skip = sign ? 1 : 0;
    if (std::string_view(source_).substr(at_ + skip > source_.size() ? source_.size() : at_ + skip, 2) !=
        end) {
      return false;
    }
    push(output ? Kind::output_end : Kind::block_end, "");
    at_ += skip + 2;
    close(sign, !output);
    return true;
  }

  // Digits with single underscores between them, from `from`; the end of them.
  template <class IsDigit>
  size_t digits(size_t from, IsDigit is) const {
    while (
        from < source_.size() &&
        (is(source_[from]) || (source_[from] == '_' && from + 1 < source_.size() && is(source_[from + 1])))) {
      ++from;
    }
    return from;
  }

  bool decimal_at(size_t i) const { return i < source_.size() && is_digit(source_[i]); }

  void lex_number() {
    if (source_[at_] == '0' && at_ + 1 < source_.size()) {
      const char kind = static_cast<char>(source_[at_ + 1] | 0x20);
      if (kind == 'b') return lex_based(2, [](char c) { return c == '0' || c == '1'; });
      if (kind == 'o') return lex_based(8, [](char c) { return c >= '0' && c <= '7'; });
      if (kind == 'x') {
        return lex_based(16, [](char c) { return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); });
      }
    }
    size_t end = digits(at_, is_digit);
    const size_t whole = end;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.' && decimal_at(end + 1)) end = digits(end + 1, is_digit);
      if (end < source_.size() && (source_[end] | 0x20) == 'e') {
        const size_t sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
        if (decimal_at(end + 1 + sign)) end = digits(end + 1 + sign, is_digit);
      }
    }
    if (end == whole) {
      // A number that begins with 0 is 0 and nothing but zeros.
      if (source_[at_] == '0') end = digits(at_, [](char c) { return c == '0'; });
      return push_integer(at_, end, 10);
    }
    Token& token = push(Kind::real, "");
    std::string text = source_.substr(at_, end - at_);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    if (std::from_chars(text.data(), text.data() + text.size(), token.real).ec != std::errc()) {
      fail_here("this number does not fit a double");
    }
    at_ = end;
  }

  template <class IsDigit>
  void lex_based(int base, IsDigit is) {
    const size_t end = digits(at_ + 2, is);
    if (end == at_ + 2) return push_integer(at_, at_ + 1, 10);
    push_integer(at_ + 2, end, base);
  }

  void push_integer(size_t begin, size_t end, int base) {
    std::string text = source_.substr(begin, end - begin);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    Token& token = push(Kind::integer, "");
    const auto result = std::from_chars(text.data(), text.data() + text.size(), token.integer, base);
    if (result.ec != std::errc()) fail_here("this integer does not fit 64 bits");
    at_ = end;
  }

  void lex_name() {
    size_t end = at_;
    while (end < source_.size()) {
      const auto [code, size] = unicode::decode(source_, end);
      if (!unicode::is_name_part(code)) break;
      end += size;
    }
    push(Kind::name, source_.substr(at_, end - at_));
    at_ = end;
  }

  void lex_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_here("this string is never closed");
    Token& token = push(Kind::text, "");
    token.text = unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1), token.line, token.column);
    at_ = end + 1;
  }

  void lex_operator() {
    static constexpr std::array<std::string_view, 26> kOperators{
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view op) { return looking_at(op); });
    if (found == kOperators.end()) fail_here("this character has no meaning in a template expression");
    const char c = (*found)[0];
    if (c == '(') brackets_ += ')';
    if (c == '[') brackets_ += ']';
    if (c == '{') brackets_ += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) fail_here(cat("'", *found, "' closes nothing"));
      brackets_.pop_back();
    }
    push(Kind::op, std::string(*found));
    at_ += found->size();
  }

  std::string source_;
  std::vector<Token> tokens_;
  std::string brackets_;  // the closing brackets still to come
  bool line_starting_ = true;
  size_t at_ = 0;
  size_t counted_ = 0;
  int line_ = 1;
  int column_ = 1;
};

}  // namespace

void fail_at(int line, int column, std::string_view message) {
  fail("line ", line, ", column ", column, ": ", message);
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace llamita::jinja
