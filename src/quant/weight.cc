#include "quant/weight.h"

#include <algorithm>

#include "base/check.h"
#include "quant/interleave.h"
#include "quant/unpack.h"

namespace llamita::quant {

namespace {

struct Place {
  const Part* part;
  int64_t row;  // within the part
};

Place locate(const Weight& weight, int64_t n) {
  LLAMITA_CHECK(n >= 0, "row ", n);
  int64_t row = n;
  for (const Part& part : weight.parts) {
    if (row < part.rows) return {&part, row};
    row -= part.rows;
  }
  LLAMITA_CHECK(false, "row ", n, " of ", weight.rows());
  return {};
}

}  // namespace

int64_t Weight::rows() const {
  int64_t sum = 0;
  for (const Part& part : parts) sum += part.rows;
  return sum;
}

int64_t Weight::bytes() const {
  int64_t sum = 0;
  for (const Part& part : parts) sum += experts * part.rows * row_bytes(part.format, cols);
  return sum;
}

bool Weight::stored_like(const Weight& other) const {
  return layout == other.layout && experts == other.experts && cols == other.cols &&
         std::equal(parts.begin(), parts.end(), other.parts.begin(), other.parts.end(),
                    [](const Part& a, const Part& b) { return a.format == b.format && a.rows == b.rows; });
}

const void* Weight::row(int64_t n, int64_t expert) const {
  LLAMITA_CHECK(layout == Layout::rows, "the rows of a packed weight have no address");
  LLAMITA_CHECK(expert >= 0 && expert < experts, "expert ", expert, " of ", experts);
  const auto [part, row] = locate(*this, n);
  const int64_t stride = row_bytes(part->format, cols);
  const int64_t offset = (expert * part->rows + row) * stride;
  LLAMITA_DCHECK(offset + stride <= static_cast<int64_t>(part->storage.bytes()), part->name, " is too short");
  return static_cast<const std::byte*>(part->storage.data()) + offset;
}

void unpack_row(const Weight& weight, int64_t n, float* out, int64_t expert) {
  if (weight.layout == Layout::interleaved) {
    const auto [part, row] = locate(weight, n);
    const int64_t bytes = row_bytes(part->format, weight.cols), group = row / kGroupRows * kGroupRows;
    thread_local std::vector<std::byte> stored;  // grows once: a step allocates nothing
    stored.resize(static_cast<size_t>(bytes));
    extract_row(part->format, static_cast<const std::byte*>(part->storage.data()) + group * bytes,
                static_cast<int>(row - group), weight.cols, stored.data());
    return unpack_row(part->format, stored.data(), out, weight.cols);
  }
  unpack_row(locate(weight, n).part->format, weight.row(n, expert), out, weight.cols);
}

}  // namespace llamita::quant
