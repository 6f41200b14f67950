// Json::parse: one pass over the bytes with an explicit stack, so nesting costs heap and no call stack.
// Strict RFC 8259: no comments, no trailing commas, no NaN, valid UTF-8 without lone surrogates.
#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/cat.h"
#include "base/mapped_file.h"
#include "formats/json.h"
#include "formats/printable.h"
#include "formats/utf8.h"
#include "llamita/error.h"

namespace llamita {

namespace {

class Parser {
 public:
  Parser(std::string_view text, const std::string& source, const Json::Limits& limits)
      : text_(text), source_(source), limits_(limits) {}

  Json run() {
    if (text_.size() > limits_.bytes) {
      throw Error(cat(source_, ": JSON of ", text_.size(), " bytes; the limit is ", limits_.bytes));
    }
    skip_space();
    for (;;) {  // a value starts here
      Json value;
      if (next_is('{') || next_is('[')) {
        if (open()) continue;  // its first member is the next value
        value = close();
      } else {
        value = scalar();
      }
      for (;;) {  // a value is complete: it goes to its container, which it may complete too
        if (stack_.empty()) {
          skip_space();
          if (at_ != text_.size()) fail("the end was expected after the value");
          return value;
        }
        add(std::move(value));
        if (another_member()) break;
        value = close();
      }
    }
  }

 private:
  // A container that is still open.
  struct Frame {
    bool is_object;
    Json::Array array;
    Json::Object object;              // the last member's value is still to come after its key is read
    std::vector<size_t> key_offsets;  // of the object's keys
  };

  [[noreturn]] void fail_at(size_t offset, const std::string& message) const {
    throw Error(cat(source_, ", offset ", offset, ": ", message));
  }
  [[noreturn]] void fail(const std::string& message) const { fail_at(at_, message); }

  bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool take(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }

  // Enters the container whose bracket is next. False when it is empty: then only its closing bracket, which
  // is taken, was there.
  bool open() {
    if (stack_.size() >= static_cast<size_t>(std::max(limits_.depth, 0))) {
      fail(cat("nested deeper than the limit of ", limits_.depth));
    }
    stack_.push_back({next_is('{'), {}, {}, {}});
    ++at_;
    skip_space();
    if (take(stack_.back().is_object ? '}' : ']')) return false;
    if (stack_.back().is_object) read_key();
    return true;
  }

  void add(Json value) {
    if (++values_ > limits_.values) fail(cat("more values than the limit of ", limits_.values));
    Frame& top = stack_.back();
    if (top.is_object) {
      top.object.back().second = std::move(value);
    } else {
      top.array.push_back(std::move(value));
    }
  }

  // After a member: true when a comma says that another follows, false when the closing bracket was taken.
  bool another_member() {
    const bool is_object = stack_.back().is_object;
    skip_space();
    if (take(is_object ? '}' : ']')) return false;
    if (!take(',')) fail(is_object ? "',' or '}' was expected" : "',' or ']' was expected");
    skip_space();
    if (is_object) read_key();
    return true;
  }

  void read_key() {
    const size_t offset = at_;
    if (!next_is('"')) fail("a key in double quotes was expected");
    Frame& top = stack_.back();
    top.object.emplace_back(string(), Json());
    top.key_offsets.push_back(offset);
    skip_space();
    if (!take(':')) fail("':' was expected after the key");
    skip_space();
  }

  Json close() {
    Frame top = std::move(stack_.back());
    stack_.pop_back();
    if (!top.is_object) return Json(std::move(top.array));
    refuse_duplicates(top);
    return Json(std::move(top.object));
  }

  // Sorting, because no choice of keys makes it slow as colliding keys make a hash table.
  void refuse_duplicates(const Frame& frame) const {
    std::vector<size_t> order(frame.object.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const auto key = [&](size_t i) -> const std::string& { return frame.object[i].first; };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const int compared = key(a).compare(key(b));
      return compared != 0 ? compared < 0 : a < b;
    });
    for (size_t i = 1; i < order.size(); ++i) {
      if (key(order[i - 1]) == key(order[i])) {
        fail_at(frame.key_offsets[order[i]], cat("the key ", printable(key(order[i])), " is there twice"));
      }
    }
  }

  Json scalar() {
    if (next_is('"')) return Json(string());
    if (take_word("true")) return Json(true);
    if (take_word("false")) return Json(false);
    if (take_word("null")) return Json();
    return number();
  }

  bool take_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  size_t digits() {
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    return at_ - begin;
  }

  Json number() {
    const size_t begin = at_;
    bool whole = true;
    take('-');
    const size_t first = at_;
    const size_t count = digits();
    if (count == 0) {
      fail(at_ == text_.size() ? "the text ends where a value was expected"
                               : cat("expected a value, found ", printable(text_.substr(at_, 1))));
    }
    if (count > 1 && text_[first] == '0') fail_at(first, "a number may not start with 0");
    if (take('.')) {
      whole = false;
      if (digits() == 0) fail("a digit was expected after '.'");
    }
    if (take('e') || take('E')) {
      whole = false;
      if (!take('+')) take('-');
      if (digits() == 0) fail("a digit was expected in the exponent");
    }
    const char* from = text_.data() + begin;
    const char* to = text_.data() + at_;
    int64_t integer = 0;
    if (whole && std::from_chars(from, to, integer).ec == std::errc()) return Json(integer);
    double real = 0;
    if (std::from_chars(from, to, real).ec != std::errc()) {
      fail_at(begin, "a number outside the range of a double");
    }
    return Json(real);
  }

  // The string whose opening quote is next, unescaped.
  std::string string() {
    const size_t begin = at_++;
    std::string out;
    for (;;) {
      const size_t run = at_;
      while (at_ < text_.size() && is_plain(static_cast<unsigned char>(text_[at_]))) ++at_;
      out.append(text_, run, at_ - run);
      if (at_ == text_.size()) fail_at(begin, "a string that does not end");
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        ++at_;
        return out;
      }
      if (c == '\\') {
        escape(out);
      } else if (c < 0x20) {
        fail("a control character in a string must be escaped");
      } else {
        const size_t length = utf8_length(text_.substr(at_));
        if (length == 0) fail("the bytes are no valid UTF-8");
        out.append(text_, at_, length);
        at_ += length;
      }
    }
  }

  static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

  void escape(std::string& out) {
    static constexpr std::string_view kCodes = "\"\\/bfnrt";
    static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const size_t begin = at_++;
    const char code = at_ < text_.size() ? text_[at_] : '\0';
    ++at_;
    if (code == 'u') {
      append_utf8(out, code_point(begin));
      return;
    }
    const size_t which = kCodes.find(code);
    if (which == std::string_view::npos) fail_at(begin, "an unknown escape");
    out.push_back(kMeanings[which]);
  }

  // The rest of \uXXXX, or of the two that make a surrogate pair.
  char32_t code_point(size_t begin) {
    const char32_t first = four_hex_digits(begin);
    if (first < 0xd800 || first > 0xdfff) return first;
    if (first > 0xdbff || !take('\\') || !take('u')) fail_at(begin, "a surrogate without its partner");
    const char32_t second = four_hex_digits(begin);
    if (second < 0xdc00 || second > 0xdfff) fail_at(begin, "a surrogate without its partner");
    return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
  }

  char32_t four_hex_digits(size_t begin) {
    const std::string_view hex = text_.substr(std::min(at_, text_.size()), 4);
    uint32_t value = 0;
    const auto end = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
    if (hex.size() != 4 || end.ptr != hex.data() + 4) fail_at(begin, "\\u needs four hex digits");
    at_ += 4;
    return value;
  }

  std::string_view text_;
  const std::string& source_;
  const Json::Limits& limits_;
  size_t at_ = 0;
  size_t values_ = 0;
  std::vector<Frame> stack_;
};

}  // namespace

Json Json::parse(std::string_view text, const std::string& source, const Limits& limits) {
  return Parser(text, source, limits).run();
}

Json Json::parse_file(const std::string& path) {
  const MappedFile file(path);
  return parse({reinterpret_cast<const char*>(file.bytes().data()), file.size()}, path);
}

}  // namespace llamita
