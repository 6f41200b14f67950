// GBNF, the notation that llama.cpp made the field's standard for grammars:
//
//   root  ::= "{" pair ("," pair)* "}"     # rule "root" is the whole text
//   pair  ::= [a-z_]+ ":" [^\n,}]{1,40}
//   digit ::= [0-9] | "\u0660"
//
// Literals and classes know \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH; classes hold Unicode
// characters; "." is any character; ? * + {m} {m,} {m,n} repeat. Rules end at the end of their line, except
// inside parentheses and after "::=" or "|", and where the next line begins with "|".
#pragma once

#include <memory>
#include <string_view>

#include "text/grammar/grammar.h"

namespace llamita::grammar {

// Throws Error "grammar, line <n>: ..." for what is not GBNF or too large (text 64 KiB, groups 64 deep,
// counts 100,000), and where GrammarBuilder::build does.
std::shared_ptr<const Grammar> parse_gbnf(std::string_view text);

}  // namespace llamita::grammar
