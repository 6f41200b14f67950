// Numbers between bounds, as text: digit by digit, without arithmetic. Exponents are left out where there are
// bounds, and the digits are so few (15) that different texts are different doubles.
#pragma once

#include <optional>
#include <string>

#include "formats/json.h"
#include "text/grammar/grammar_builder.h"

namespace llamita::grammar {

struct NumberBound {
  const Json* value = nullptr;  // a number; nullptr: no bound
  bool exclusive = false;
};

// Throws Error when nothing lies between the bounds or one is written with too many digits.
GrammarBuilder::Expr number_between(GrammarBuilder& builder, NumberBound low, NumberBound high, bool integer);

}  // namespace llamita::grammar
