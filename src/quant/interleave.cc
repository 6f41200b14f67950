#include "quant/interleave.h"

#include <cstring>

#include "base/check.h"
#include "quant/blocks.h"

namespace llamita::quant {

namespace {

constexpr Field kHalfAndNibbles[] = {{0, 2, 2}, {2, 16, 4}};      // Q4_0, IQ4_NL
constexpr Field kQ4_1[] = {{0, 4, 2}, {4, 16, 4}};                // d m | nibbles
constexpr Field kQ5_0[] = {{0, 2, 2}, {2, 4, 4}, {6, 16, 4}};     // d | high_bits | nibbles
constexpr Field kQ5_1[] = {{0, 4, 2}, {4, 4, 4}, {8, 16, 4}};     // d m | high_bits | nibbles
constexpr Field kQ8_0[] = {{0, 2, 2}, {2, 32, 4}};                // d | q
constexpr Field kQ2_K[] = {{0, 16, 4}, {16, 64, 4}, {80, 4, 2}};  // scales | pairs | d dmin
constexpr Field kQ3_K[] = {{0, 32, 4}, {32, 64, 4}, {96, 12, 4}, {108, 2, 2}};
constexpr Field kQ4_K[] = {{0, 4, 2}, {4, 12, 4}, {16, 128, 4}};  // d dmin | scales | nibbles
constexpr Field kQ5_K[] = {{0, 4, 2}, {4, 12, 4}, {16, 32, 4}, {48, 128, 4}};
constexpr Field kQ6_K[] = {{0, 128, 4}, {128, 64, 4}, {192, 16, 4}, {208, 2, 2}};

// Calls move(offset in the group, row, offset in the row's block, bytes) for every unit of a block.
template <class Move>
void for_units(std::span<const Field> fields, const Move& move) {
  for (const Field& field : fields) {
    for (int at = 0; at < field.bytes; at += field.unit) {
      const int first = kGroupRows * (field.offset + at);
      for (int row = 0; row < kGroupRows; ++row) {
        move(first + row * field.unit, row, field.offset + at, field.unit);
      }
    }
  }
}

// A unit is copied through a constant size, which compiles to one move.
void copy_unit(std::byte* to, const std::byte* from, int bytes) {
  bytes == 4 ? std::memcpy(to, from, 4) : std::memcpy(to, from, 2);
}

}  // namespace

std::span<const Field> fields_of(DType format) {
  switch (format) {
    case DType::q4_0:
    case DType::iq4_nl: return kHalfAndNibbles;
    case DType::q4_1: return kQ4_1;
    case DType::q5_0: return kQ5_0;
    case DType::q5_1: return kQ5_1;
    case DType::q8_0: return kQ8_0;
    case DType::q2_k: return kQ2_K;
    case DType::q3_k: return kQ3_K;
    case DType::q4_k: return kQ4_K;
    case DType::q5_k: return kQ5_K;
    case DType::q6_k: return kQ6_K;
    default: return {};
  }
}

bool can_interleave(DType format, int64_t rows) {
  return !fields_of(format).empty() && rows > 0 && rows % kGroupRows == 0;
}

void interleave_group(DType format, const std::array<const std::byte*, kGroupRows>& rows, int64_t cols,
                      std::byte* group) {
  const int64_t block = info(format).block_bytes, blocks = cols / info(format).block_elems;
  const std::span<const Field> fields = fields_of(format);
  for (int64_t b = 0; b < blocks; ++b) {
    std::byte* to = group + b * kGroupRows * block;
    for_units(fields, [&](int at, int row, int from, int bytes) {
      copy_unit(to + at, rows[static_cast<size_t>(row)] + b * block + from, bytes);
    });
  }
}

void extract_row(DType format, const std::byte* group, int row, int64_t cols, std::byte* out) {
  const int64_t block = info(format).block_bytes, blocks = cols / info(format).block_elems;
  for (int64_t b = 0; b < blocks; ++b) {
    const std::byte* from = group + b * kGroupRows * block;
    for (const Field& field : fields_of(format)) {
      for (int at = field.offset; at < field.offset + field.bytes; at += field.unit) {
        copy_unit(out + b * block + at, from + kGroupRows * at + row * field.unit, field.unit);
      }
    }
  }
}

Weight interleaved(const Weight& weight) {
  LLAMITA_CHECK(weight.layout == Layout::rows && weight.experts == 1, "a weight that is no plain rows");
  Weight out{.layout = Layout::interleaved, .cols = weight.cols};
  for (const Part& part : weight.parts) {
    LLAMITA_CHECK(can_interleave(part.format, part.rows), part.rows, " rows of ", name(part.format));
    const int64_t row = row_bytes(part.format, weight.cols);
    Storage storage = Storage::allocate(static_cast<size_t>(part.rows * row));
    const auto* from = static_cast<const std::byte*>(part.storage.data());
    for (int64_t n = 0; n < part.rows; n += kGroupRows) {
      std::array<const std::byte*, kGroupRows> rows;
      for (int r = 0; r < kGroupRows; ++r) rows[static_cast<size_t>(r)] = from + (n + r) * row;
      interleave_group(part.format, rows, weight.cols, static_cast<std::byte*>(storage.data()) + n * row);
    }
    out.parts.push_back({part.name, part.format, part.rows, std::move(storage)});
  }
  return out;
}

}  // namespace llamita::quant
