// The range of every size a model file may declare. Far beyond any model there is, and small enough that no
// product of two of them overflows.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::limits {

inline constexpr int64_t kLayers = 1024;
inline constexpr int64_t kHidden = 1 << 17;
inline constexpr int64_t kHeads = 1024;
inline constexpr int64_t kHeadDim = 1024;
inline constexpr int64_t kFfn = 1 << 20;
inline constexpr int64_t kVocab = (1 << 23) - 1;  // a token id and a word of sampling's sort fit 32 bits
inline constexpr int64_t kMaxPositions = 1 << 27;
inline constexpr int64_t kImageSide = 1 << 13;  // of a vision tower

// `value` as int; Error naming `what` when it is outside [min, max].
inline int checked(int64_t value, int64_t min, int64_t max, std::string_view what) {
  if (value < min || value > max) throw Error(cat(what, " is ", value, ", expected ", min, " to ", max));
  return static_cast<int>(value);
}

}  // namespace llamita::limits
