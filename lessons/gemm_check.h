// Inputs and the oracle of the GEMM ladder.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "hw/cuda/stream.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

// Uniform in [-1, 1), different for each seed. Never zeros: a card multiplies zeros faster than it does data.
void fill_random(__nv_bfloat16* data, size_t count, uint64_t seed, const cuda::Stream& stream);

struct GemmError {
  double relative = 0;  // ||C - reference|| / ||reference||
  bool ok = false;      // every element within a bf16 rounding and the fp32 sum's slack
  std::string worst;    // the element that is furthest off, in words
};

// Compares p.c with sums in fp64, made on the card by a kernel with no tiles and no tricks.
GemmError compare_with_fp64(const Gemm& p, const cuda::Stream& stream);

}  // namespace llamita::lessons
