// Inputs and the oracle of the attention ladder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "hw/cuda/stream.h"
#include "lessons/attention.h"

namespace llamita::lessons {

// Uniform in [-1, 1), different for each seed.
void fill_uniform(__nv_bfloat16* data, size_t count, uint64_t seed, const cuda::Stream& stream);

struct AttentionError {
  double relative = 0;  // ||O - reference|| / ||reference|| over the rows compared
  bool ok = false;
  std::string worst;  // the element that is furthest off, in words
};

// Compares rows of p.out with a softmax in fp64, made on the card by a kernel with no tiles and no tricks:
// every (B T H / rows)th row, all of them when `rows` is as large.
AttentionError compare_with_fp64(const Attention& p, size_t rows, const cuda::Stream& stream);

}  // namespace llamita::lessons
