// The pieces of JSON text as expressions: strings, numbers, punctuation with bounded white space, any value.
// Everything is bounded so that no model can go on for ever inside what means nothing: numbers have at most
// 18 digits on each side of the point and two in the exponent, white space has the form of `Layout`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/grammar_builder.h"

namespace llamita::grammar {

enum class Layout {
  compact,  // {"a":1,"b":[1,2]}
  spaced,   // one space after ':' and ',' where the model likes
  free,     // a line end and up to 32 spaces or tabs wherever JSON takes white space
};

class JsonText {
 public:
  using Expr = GrammarBuilder::Expr;

  JsonText(GrammarBuilder& builder, Layout layout) : builder_(builder), layout_(layout) {}

  Expr any_value() { return rule(value_, "value", &JsonText::value_body); }
  Expr string() { return rule(string_, "string", &JsonText::string_body); }
  Expr number() { return rule(number_, "number", &JsonText::number_body); }
  Expr integer() { return rule(integer_, "integer", &JsonText::integer_body); }

  // One character of a string, with its escapes. Lone surrogates are not among them.
  Expr character();
  // Characters of the set as they stand inside a string: '"', '\' and controls escaped, the others as they
  // are.
  Expr characters(const CodePoints& set);
  Expr quoted(Expr content);
  // The string `text`, escaped as Json::dump has it.
  Expr literal(std::string_view text);

  // Any key but these.
  Expr key_except(const std::vector<std::string_view>& taken);
  Expr colon() { return punctuation(":"); }
  Expr comma() { return punctuation(","); }
  Expr gap();  // white space inside brackets

  // [ content ] and { content }; an empty content leaves out the white space too.
  Expr bracketed(char open, Expr content, bool may_be_empty, char close);
  // min to max of `item`, with commas between (min 0: possibly nothing).
  Expr list(Expr item, int32_t min, int32_t max);

 private:
  Expr rule(int& id, const char* name, Expr (JsonText::*body)());
  Expr value_body();
  Expr string_body() { return quoted(builder_.repeat(character(), 0, kUnbounded)); }
  Expr number_body();
  Expr integer_body();
  Expr punctuation(std::string_view sign);
  Expr hex(int digits);
  Expr of(std::string_view ascii);  // one of these bytes

  GrammarBuilder& builder_;
  Layout layout_;
  int value_ = -1, string_ = -1, number_ = -1, integer_ = -1;
  std::optional<Expr> character_;
};

}  // namespace llamita::grammar
