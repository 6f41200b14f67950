// One side of a layer's cache, its keys or its values, as a tensor, and rows of it as int8 (kv_format.h).
#pragma once

#include "quant/kv_format.h"
#include "tensor/tensor.h"

namespace llamita {

// (pages, Hkv, kPageTokens, D) over `data`, which has room for kv_side_bytes() of it, or over no memory.
Tensor kv_side(void* data, KvFormat format, int64_t pages, int64_t Hkv, int64_t D);
int64_t kv_side_bytes(const Tensor& side);

// The scales (Hkv, kPageTokens) of a page of an int8 side.
f16* kv_scales(const Tensor& side, int64_t page);

// A row of D values as int8, and its scale. A row with a value that is not finite, or beyond 127 * 65504,
// gets the scale NaN: all of it reads as NaN.
f16 quantize_kv_row(const float* x, int64_t D, int8_t* out);

}  // namespace llamita
