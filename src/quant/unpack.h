// Block formats to floats: the scalar definition of what stored weights mean. Slow and plain on purpose; the
// reference kernels read weights through it and every SIMD kernel is tested against it. Each value is rounded
// as the formula in blocks.h reads from left to right, in fp32, so results are the same bits everywhere.
#pragma once

#include <cstdint>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace llamita::quant {

// Whether weights may be stored in this format: F32, F16, BF16 and the block formats.
bool is_weight_format(DType format);

// `out` gets `elems` values of the row at `row`, which may start at any byte. `elems` is a multiple of the
// format's block and `format` a weight format (checked).
void unpack_row(DType format, const void* row, float* out, int64_t elems);

// One block, 32 or 256 values.
void unpack_block(const BlockQ4_0& block, float* out);
void unpack_block(const BlockQ4_1& block, float* out);
void unpack_block(const BlockQ5_0& block, float* out);
void unpack_block(const BlockQ5_1& block, float* out);
void unpack_block(const BlockQ8_0& block, float* out);
void unpack_block(const BlockIQ4_NL& block, float* out);
void unpack_block(const BlockQ2_K& block, float* out);
void unpack_block(const BlockQ3_K& block, float* out);
void unpack_block(const BlockQ4_K& block, float* out);
void unpack_block(const BlockQ5_K& block, float* out);
void unpack_block(const BlockQ6_K& block, float* out);

}  // namespace llamita::quant
