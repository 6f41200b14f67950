// Floats to the simple weight formats, for random weights and tests: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1
// and Q8_0. The scale of a block comes from its extreme values, which is how such files are commonly made:
// the bytes equal those of the Python package gguf. No search for better scales.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace llamita::quant {

bool can_pack(DType format);

// Writes the row_bytes(format, elems) bytes of `elems` values to `row`, at any alignment. `elems` is a
// multiple of the format's block and `format` one of the above (checked). Values should be finite and a
// block's largest at most 65504 steps of its scale; beyond, the scale becomes infinite.
void pack_row(DType format, const float* values, void* row, int64_t elems);

}  // namespace llamita::quant
