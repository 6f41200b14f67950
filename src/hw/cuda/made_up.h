// Made-up weights written on the card (tensor/made_up.h says which numbers).
#pragma once

#include <cstdint>

#include "hw/cuda/stream.h"
#include "tensor/dtype.h"
#include "tensor/made_up.h"

namespace llamita::cuda {

// `elems` elements of f32, f16 or bf16 at `to`, element i from index i. Queued on the stream.
void fill_made_up(void* to, DType dtype, int64_t elems, const MadeUp& numbers, const Stream& stream);

}  // namespace llamita::cuda
