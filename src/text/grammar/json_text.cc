#include "text/grammar/json_text.h"

#include <utility>

#include "formats/json.h"

namespace llamita::grammar {

namespace {

constexpr int32_t kDigits = 18;  // an int64 has 18 whole ones
constexpr int32_t kIndent = 32;

// What a string holds as it is.
const CodePoints& plain() {
  static const CodePoints set = normalized({{0x20, 0x21}, {0x23, 0x5B}, {0x5D, kLastCodePoint}});
  return set;
}

}  // namespace

JsonText::Expr JsonText::rule(int& id, const char* name, Expr (JsonText::*body)()) {
  if (id < 0) {
    id = builder_.declare(name, false);
    builder_.define(id, (this->*body)());
  }
  return builder_.call(id);
}

JsonText::Expr JsonText::of(std::string_view ascii) {
  CodePoints set;
  for (const char c : ascii) set.push_back({static_cast<char32_t>(c), static_cast<char32_t>(c)});
  return builder_.characters(std::move(set));
}

JsonText::Expr JsonText::hex(int digits) {
  return builder_.repeat(builder_.characters({{'0', '9'}, {'a', 'f'}, {'A', 'F'}}), digits, digits);
}

JsonText::Expr JsonText::character() {
  if (character_) return *character_;
  auto& b = builder_;
  const Expr u = b.bytes("\\u");
  const Expr d = of("dD");
  const Expr outside =
      b.sequence({u, b.characters({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}), hex(3)});
  const Expr below = b.sequence({u, d, of("01234567"), hex(2)});
  const Expr pair = b.sequence({u, d, of("89abAB"), hex(2), u, d, of("cdefCDEF"), hex(2)});
  character_ =
      b.any_of({b.characters(plain()), b.sequence({b.bytes("\\"), of("\"\\/bfnrt")}), outside, below, pair});
  return *character_;
}

JsonText::Expr JsonText::characters(const CodePoints& set) {
  static constexpr std::pair<char, char> kShort[] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                                                     {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};
  std::vector<Expr> options;
  CodePoints unescaped = intersection(set, plain());
  if (!unescaped.empty()) options.push_back(builder_.characters(std::move(unescaped)));
  for (const auto [from, to] : intersection(set, complement(plain()))) {
    for (char32_t c = from; c <= to; ++c) {
      char escape = 0;
      for (const auto& [raw, letter] : kShort) {
        if (static_cast<char32_t>(raw) == c) escape = letter;
      }
      if (escape != 0) {
        options.push_back(builder_.bytes(std::string{'\\', escape}));
      } else {
        static constexpr char kHex[] = "0123456789abcdef";
        options.push_back(builder_.bytes(std::string{'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]}));
      }
    }
  }
  return builder_.any_of(std::move(options));
}

JsonText::Expr JsonText::quoted(Expr content) {
  return builder_.sequence({builder_.bytes("\""), content, builder_.bytes("\"")});
}

JsonText::Expr JsonText::literal(std::string_view text) {
  return builder_.bytes(Json(std::string(text)).dump());
}

JsonText::Expr JsonText::key_except(const std::vector<std::string_view>& taken) {
  if (taken.empty()) return string();
  std::vector<Expr> literals;
  for (const auto name : taken) literals.push_back(literal(name));
  // Escapes would be other spellings of the same keys.
  const Expr any = quoted(builder_.repeat(builder_.characters(plain()), 0, kUnbounded));
  return builder_.except(any, builder_.any_of(std::move(literals)));
}

JsonText::Expr JsonText::gap() {
  if (layout_ != Layout::free) return builder_.empty();
  return builder_.sequence({builder_.optional(builder_.bytes("\n")), builder_.repeat(of(" \t"), 0, kIndent)});
}

JsonText::Expr JsonText::punctuation(std::string_view sign) {
  const Expr itself = builder_.bytes(sign);
  switch (layout_) {
    case Layout::compact: return itself;
    case Layout::spaced: return builder_.sequence({itself, builder_.optional(builder_.bytes(" "))});
    case Layout::free: break;
  }
  return builder_.sequence({gap(), itself, gap()});
}

JsonText::Expr JsonText::bracketed(char open, Expr content, bool may_be_empty, char close) {
  const Expr inside = builder_.sequence({gap(), content, gap()});
  return builder_.sequence({builder_.bytes({&open, 1}), may_be_empty ? builder_.optional(inside) : inside,
                            builder_.bytes({&close, 1})});
}

JsonText::Expr JsonText::list(Expr item, int32_t min, int32_t max) {
  if (max == 0) return builder_.empty();
  const int32_t more = max == kUnbounded ? kUnbounded : max - 1;
  const Expr some = builder_.sequence(
      {item, builder_.repeat(builder_.sequence({comma(), item}), min > 0 ? min - 1 : 0, more)});
  return min == 0 ? builder_.optional(some) : some;
}

JsonText::Expr JsonText::number_body() {
  auto& b = builder_;
  const Expr digit = b.characters({{'0', '9'}});
  const Expr whole =
      b.any_of({b.bytes("0"), b.sequence({b.characters({{'1', '9'}}), b.repeat(digit, 0, kDigits - 1)})});
  const Expr fraction = b.optional(b.sequence({b.bytes("."), b.repeat(digit, 1, kDigits)}));
  const Expr exponent = b.optional(b.sequence({of("eE"), b.optional(of("+-")), b.repeat(digit, 1, 2)}));
  return b.sequence({b.optional(b.bytes("-")), whole, fraction, exponent});
}

JsonText::Expr JsonText::integer_body() {
  auto& b = builder_;
  const Expr digits = b.repeat(b.characters({{'0', '9'}}), 0, kDigits - 1);
  return b.any_of({b.bytes("0"), b.sequence({b.optional(b.bytes("-")), b.characters({{'1', '9'}}), digits})});
}

JsonText::Expr JsonText::value_body() {
  auto& b = builder_;
  // rule() has noted the id before the body is made, so that arrays and objects can call it.
  const Expr value = b.call(value_);
  const int array = b.declare("array", true);
  b.define(array, bracketed('[', list(value, 1, kUnbounded), true, ']'));
  const int object = b.declare("object", true);
  b.define(object, bracketed('{', list(b.sequence({string(), colon(), value}), 1, kUnbounded), true, '}'));
  return b.any_of({string(), number(), b.call(object), b.call(array), b.bytes("true"), b.bytes("false"),
                   b.bytes("null")});
}

}  // namespace llamita::grammar
