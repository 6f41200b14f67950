// Checked integer arithmetic for every size that comes out of a file or a request. A product that wraps is
// how model loaders were broken elsewhere, one site at a time; here there is one way to multiply a size.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

// a * b; throws Error naming `what` when the product does not fit.
template <std::integral Int>
Int checked_mul(Int a, Int b, std::string_view what) {
  Int out;
  if (__builtin_mul_overflow(a, b, &out)) throw Error(cat(what, ": ", a, " x ", b, " overflows"));
  return out;
}

// a + b; throws Error naming `what` when the sum does not fit.
template <std::integral Int>
Int checked_add(Int a, Int b, std::string_view what) {
  Int out;
  if (__builtin_add_overflow(a, b, &out)) throw Error(cat(what, ": ", a, " + ", b, " overflows"));
  return out;
}

// `value` rounded up to a multiple of `alignment` (> 0).
template <std::integral Int>
Int checked_align_up(Int value, Int alignment, std::string_view what) {
  const Int rest = value % alignment;
  return rest == 0 ? value : checked_add<Int>(value, alignment - rest, what);
}

// `value` as To; throws Error naming `what` when To cannot hold it.
template <std::integral To, std::integral From>
To checked_cast(From value, std::string_view what) {
  if (!std::in_range<To>(value)) throw Error(cat(what, ": ", value, " is out of range"));
  return static_cast<To>(value);
}

}  // namespace llamita
