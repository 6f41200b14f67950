// Descriptors of the bulk tensor copy engine (TMA, sm_90): a tensor in device memory and the box that one
// copy moves to or from shared memory. What lies outside the tensor is read as zero and never written, so
// ragged edges need no code; the byte count of a load is always the whole box's.
#pragma once

#include <cuda.h>

#include <initializer_list>

#include "tensor/tensor.h"

namespace llamita::cuda {

// How the 16-byte pieces of a box row are permuted in shared memory (device/swizzle.cuh has the arithmetic).
// The box's last dimension must not be longer than the swizzle's span.
enum class TmaSwizzle : uint8_t { none, span32, span64, span128 };

// `box` has one size a tensor axis, outermost first as the shape, each 1..256. The last axis must be
// contiguous, the data and every other stride multiples of 16 bytes (checked). Pass the result to kernels by
// value as a __grid_constant__. Throws Error when the driver has no TMA.
CUtensorMap make_tensor_map(const Tensor& tensor, std::initializer_list<int> box,
                            TmaSwizzle swizzle = TmaSwizzle::span128);

}  // namespace llamita::cuda
