// Regular expressions of JSON Schema's "pattern", as expressions over JSON text: what stands between the
// quotes of a string whose value the pattern matches.
//
// Taken: literals, . \d \D \w \W \s \S, classes, groups (capturing, (?:...), named), |, ? * + {m} {m,} {m,n}
// and their lazy forms, the escapes \n \r \t \f \v \0 \xHH \uHHHH \u{...}, ^ at the beginning and $ at the
// end of the whole pattern or of one of its outermost alternatives. Without anchors the pattern may match
// anywhere, as in ECMA-262. Back references, look-around, \b and \p{...} are Errors that name them.
#pragma once

#include <string_view>

#include "text/grammar/grammar_builder.h"
#include "text/grammar/json_text.h"

namespace llamita::grammar {

GrammarBuilder::Expr string_pattern(GrammarBuilder& builder, JsonText& json, std::string_view pattern);

// The pattern of a "format". Throws Error for formats it does not know.
std::string_view format_pattern(std::string_view format);

}  // namespace llamita::grammar
