#include "text/pattern.h"

#include <algorithm>

#include "text/regex.h"
#include "text/unicode.h"

namespace llamita {

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

// Collects matches and fills in what lies between them.
class Tiling {
 public:
  explicit Tiling(std::string_view text) : size_(text.size()) {}

  void match(size_t begin, size_t end) {
    gap(begin);
    out_.push_back({begin, end, true});
    at_ = end;
  }
  std::vector<Stretch> finish() {
    gap(size_);
    return std::move(out_);
  }

 private:
  void gap(size_t until) {
    if (at_ < until) out_.push_back({at_, until, false});
  }

  size_t size_;
  size_t at_ = 0;
  std::vector<Stretch> out_;
};

// Empty matches are matches too (they split), except right after the last match, where the search moves on by
// a character.
void find_regex(const Regex& regex, std::string_view text, Tiling& tiling) {
  size_t from = 0;
  bool matched = false;
  size_t last_end = 0;
  Regex::Match match{};
  while (from <= text.size() && regex.search(text, from, match)) {
    if (match.begin == match.end && matched && match.end == last_end) {
      from += from < text.size() ? unicode::decode(text, from).length : 1;
      continue;
    }
    // \K can set a match's begin after its end or before the last one; such a match splits nothing.
    if (match.begin > match.end || match.begin < last_end) {
      from = std::max(from, match.end) + 1;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
      continue;
    }
    tiling.match(match.begin, match.end);
    from = last_end = match.end;
    matched = true;
  }
}

}  // namespace

Pattern Pattern::literal(std::string text) { return Pattern(Literal{std::move(text)}); }
Pattern Pattern::of_class(CharClass members) { return Pattern(members); }

Pattern Pattern::regex(const std::string& source, const std::string& where) {
  if (const Scanner scanner = find_scanner(source)) return Pattern(scanner);
  return Pattern(std::make_shared<const Regex>(source, where));
}

std::vector<Stretch> Pattern::find(std::string_view text) const {
  Tiling tiling(text);
  if (text.empty()) return tiling.finish();
  std::visit(Overloaded{
                 [&](const Literal& literal) {
                   if (literal.text.empty()) return;
                   for (size_t at = text.find(literal.text); at != std::string_view::npos;
                        at = text.find(literal.text, at + literal.text.size())) {
                     tiling.match(at, at + literal.text.size());
                   }
                 },
                 [&](CharClass members) {
                   for (size_t at = 0; at < text.size();) {
                     const auto [c, length] = unicode::decode(text, at);
                     if (members(c)) tiling.match(at, at + length);
                     at += length;
                   }
                 },
                 [&](Scanner scanner) {
                   for (size_t at = 0; at < text.size();) {
                     const size_t end = scanner(text, at);
                     tiling.match(at, end);
                     at = end;
                   }
                 },
                 [&](const std::shared_ptr<const Regex>& regex) { find_regex(*regex, text, tiling); },
             },
             kind_);
  return tiling.finish();
}

}  // namespace llamita
