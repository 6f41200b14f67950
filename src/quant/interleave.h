// Layout::interleaved: a matrix of blocks re-ordered for kernels whose lanes are rows. Rows go in groups of
// kGroupRows; a group is the blocks of its rows, block by block along K, and of each block field by field,
// where the rows' units of a field (an fp16, or four bytes) take turns: one 256-bit load brings the same four
// stored bytes of eight rows, and a whole matrix is read as one stream. It is a permutation of the file's
// bytes: nothing is rounded or widened.
//
//   Q4_1, block b of rows 0..7:  d0 d1 .. d7 | m0 .. m7 | nibbles 0-3 of row 0, of row 1, .. | nibbles 4-7 …
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/weight.h"

namespace llamita::quant {

inline constexpr int kGroupRows = 8;

// Consecutive bytes of a block that are cut into units; the units of eight rows take turns.
struct Field {
  int offset;
  int bytes;
  int unit;  // 2 or 4
};
// The fields of a block format; empty for plain types, which are not interleaved.
std::span<const Field> fields_of(DType format);

// Whether a part of `rows` rows may be interleaved: a block format and whole groups.
bool can_interleave(DType format, int64_t rows);

// Eight rows of `cols` elements into a group of 8 * row_bytes(format, cols) bytes, and one row back.
void interleave_group(DType format, const std::array<const std::byte*, kGroupRows>& rows, int64_t cols,
                      std::byte* group);
void extract_row(DType format, const std::byte* group, int row, int64_t cols, std::byte* out);

// The same weight interleaved, in memory of its own. Every part must be fit for it (checked).
Weight interleaved(const Weight& weight);

}  // namespace llamita::quant
