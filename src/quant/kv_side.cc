#include "quant/kv_side.h"

#include <cmath>

#include "base/check.h"

namespace llamita {

namespace {

constexpr float kLargestScale = 65504;  // of fp16

// The smallest fp16 that is not below `value`, which is positive and at most kLargestScale.
f16 rounded_up(float value) {
  f16 half = to_f16(value);
  if (to_float(half) < value) ++half.bits;
  return half;
}

}  // namespace

int64_t KvFormat::row_bytes(int64_t D) const {
  return D * info(dtype).block_bytes + (has_scales() ? static_cast<int64_t>(sizeof(f16)) : 0);
}

Tensor kv_side(void* data, KvFormat format, int64_t pages, int64_t Hkv, int64_t D) {
  if (!format.has_scales()) return Tensor(data, format.dtype, {pages, Hkv, kPageTokens, D});
  const int64_t rows = Hkv * kPageTokens;
  const Tensor whole(data, format.dtype, {pages, rows * format.row_bytes(D)});
  return whole.columns(0, rows * D).split_last(Hkv).split_last(kPageTokens);
}

int64_t kv_side_bytes(const Tensor& side) {
  return side.dim(0) * side.stride(0) * info(side.dtype()).block_bytes;
}

f16* kv_scales(const Tensor& side, int64_t page) {
  LLAMITA_DCHECK(side.dtype() == DType::i8, "scales of ", side.shape_text());
  int8_t* rows = side.ptr<int8_t>() + page * side.stride(0);
  return reinterpret_cast<f16*>(rows + side.dim(1) * kPageTokens * side.dim(3));
}

f16 quantize_kv_row(const float* x, int64_t D, int8_t* out) {
  float largest = 0;
  bool fits = true;
  for (int64_t d = 0; d < D; ++d) {
    const float size = std::abs(x[d]);
    largest = size > largest ? size : largest;
    fits &= size <= 127 * kLargestScale;  // not where it is NaN
  }
  if (!fits) {
    for (int64_t d = 0; d < D; ++d) out[d] = 0;
    return to_f16(NAN);
  }
  const f16 scale = rounded_up(largest / 127);
  const float inverse = largest > 0 ? 1 / to_float(scale) : 0;
  // Adding 1.5 * 2^23 leaves the nearest integer, of two the even one, in the mantissa.
  constexpr float kRounder = 0x1.8p23f;
  for (int64_t d = 0; d < D; ++d) out[d] = static_cast<int8_t>((x[d] * inverse + kRounder) - kRounder);
  return scale;
}

}  // namespace llamita
