#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/cat.h"
#include "llamita/error.h"
#include "text/unicode.h"

namespace llamita::normalizers {

namespace {

using Step = Normalizer::Step;

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

// Decomposed, ordered, composed. The ordering is done here: utf8proc_map sorts a run of n combining marks in
// n^2 steps, which a hostile megabyte of marks turns into hours.
class UnicodeForm final : public Step {
 public:
  explicit UnicodeForm(Form form)
      : composed_(form == Form::nfc || form == Form::nfkc),
        compatible_(form == Form::nfkc || form == Form::nfkd) {}

  void apply(std::string& text, bool) const override {
    if (is_ascii(text)) return;
    std::vector<utf8proc_int32_t> points = decomposed(text);
    order_marks(points);
    if (composed_) {
      const auto size =
          utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
      if (size < 0) throw Error(cat("a text cannot be normalized: ", utf8proc_errmsg(size)));
      points.resize(static_cast<size_t>(size));
    }
    text.clear();
    for (const utf8proc_int32_t c : points) unicode::append(text, static_cast<char32_t>(c));
  }

 private:
  std::vector<utf8proc_int32_t> decomposed(std::string_view text) const {
    constexpr int kLongest = 18;  // U+FDFA has the longest decomposition
    const auto options =
        static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible_ ? UTF8PROC_COMPAT : 0));
    std::vector<utf8proc_int32_t> points;
    points.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const auto [c, length] = unicode::decode(text, at);
      at += length;
      utf8proc_int32_t parts[kLongest];
      const auto count =
          utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, kLongest, options, nullptr);
      if (count < 0 || count > kLongest)
        throw Error(cat("a text cannot be normalized: ", utf8proc_errmsg(count)));
      points.insert(points.end(), parts, parts + count);
    }
    return points;
  }

  static void order_marks(std::vector<utf8proc_int32_t>& points) {
    const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
    for (size_t begin = 0; begin < points.size();) {
      size_t end = begin;
      while (end < points.size() && combining_class(points[end]) != 0) ++end;
      std::stable_sort(points.begin() + static_cast<ptrdiff_t>(begin),
                       points.begin() + static_cast<ptrdiff_t>(end),
                       [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
      begin = end + 1;
    }
  }

  bool composed_, compatible_;
};

class Prepend final : public Step {
 public:
  explicit Prepend(std::string text) : text_(std::move(text)) {}
  void apply(std::string& text, bool continues) const override {
    if (!text.empty() && !continues) text.insert(0, text_);
  }

 private:
  std::string text_;
};

class Replace final : public Step {
 public:
  Replace(Pattern pattern, std::string with) : pattern_(std::move(pattern)), with_(std::move(with)) {}
  void apply(std::string& text, bool) const override {
    std::string out;
    out.reserve(text.size());
    for (const Stretch& stretch : pattern_.find(text)) {
      if (stretch.match) {
        out.append(with_);
      } else {
        out.append(text, stretch.begin, stretch.end - stretch.begin);
      }
    }
    text = std::move(out);
  }

 private:
  Pattern pattern_;
  std::string with_;
};

class Lowercase final : public Step {
 public:
  void apply(std::string& text, bool) const override {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const auto [c, length] = unicode::decode(text, at);
      at += length;
      if (c == 0x130) {
        out.append("i\u0307");  // the one character whose lower case is two
      } else {
        unicode::append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
      }
    }
    text = std::move(out);
  }
};

class Strip final : public Step {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text, bool) const override {
    size_t begin = 0, end = text.size();
    while (left_ && begin < end) {
      const auto [c, length] = unicode::decode(text, begin);
      if (!unicode::is_space(c)) break;
      begin += length;
    }
    while (right_ && end > begin) {
      const auto [c, length] = unicode::decode_before(text, end);
      if (!unicode::is_space(c)) break;
      end -= length;
    }
    text = text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class StripAccents final : public Step {
 public:
  void apply(std::string& text, bool) const override {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const auto [c, length] = unicode::decode(text, at);
      if (unicode::category(c) != unicode::Category::Mn) out.append(text, at, length);
      at += length;
    }
    text = std::move(out);
  }
};

}  // namespace

std::unique_ptr<const Step> unicode_form(Form form) { return std::make_unique<UnicodeForm>(form); }
std::unique_ptr<const Step> prepend(std::string text) { return std::make_unique<Prepend>(std::move(text)); }
std::unique_ptr<const Step> replace(Pattern pattern, std::string with) {
  return std::make_unique<Replace>(std::move(pattern), std::move(with));
}
std::unique_ptr<const Step> lowercase() { return std::make_unique<Lowercase>(); }
std::unique_ptr<const Step> strip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
std::unique_ptr<const Step> strip_accents() { return std::make_unique<StripAccents>(); }

}  // namespace llamita::normalizers
