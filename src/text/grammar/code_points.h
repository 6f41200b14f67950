// Sets of Unicode characters and the byte sequences that spell them in UTF-8. Surrogates (U+D800..U+DFFF) are
// in no set.
#pragma once

#include <cstdint>
#include <vector>

namespace llamita::grammar {

struct CodePointRange {
  char32_t first;
  char32_t last;  // inclusive
};

// Sorted, disjoint, not adjacent.
using CodePoints = std::vector<CodePointRange>;

constexpr char32_t kLastCodePoint = 0x10FFFF;

CodePoints normalized(CodePoints ranges);
CodePoints complement(const CodePoints& set);
CodePoints intersection(const CodePoints& a, const CodePoints& b);

struct ByteRange {
  uint8_t first;
  uint8_t last;  // inclusive
};

// A product of byte ranges: one to four bytes.
struct ByteSequence {
  int length = 0;
  ByteRange bytes[4] = {};
};

// UTF-8 of the set as a union of products. "é-ž" becomes [C3][A9-BF] | [C4][80-BF] | [C5][80-BE].
std::vector<ByteSequence> utf8_sequences(const CodePoints& set);

}  // namespace llamita::grammar
