// The parts of a dense weight as the matrices that kernels take.
#pragma once

#include "quant/weight.h"

namespace llamita {

// visit(data, first row, rows): parts that lie behind each other in memory are one matrix. Plain formats.
template <class Visit>
void for_each_dense_matrix(const quant::Weight& weight, Visit visit) {
  int64_t first = 0;
  for (size_t i = 0; i < weight.parts.size();) {
    const auto* begin = static_cast<const uint8_t*>(weight.parts[i].storage.data());
    const uint8_t* end = begin;
    int64_t rows = 0;
    do {
      rows += weight.parts[i].rows;
      end += weight.parts[i].rows * row_bytes(weight.parts[i].format, weight.cols);
      ++i;
    } while (i < weight.parts.size() && weight.parts[i].storage.data() == end);
    visit(begin, first, rows);
    first += rows;
  }
}

}  // namespace llamita
