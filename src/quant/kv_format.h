// KvFormat: how keys and values lie in the cache. K and V of a layer are (pages, Hkv, page, D) each.
//
// int8: each row of D (one token and KV head, of K or of V) has a scale of its own, x = scale * q with q in
// -127..127. The scales of a page, (Hkv, page) fp16, stand behind its rows, so a page is one piece of memory
// and the tensor's first stride spans both. fp16 and not f32: the row is divided by the scale as it is
// stored, so that rounding the scale makes the step wider by 2^-10 at the most, and 2 of 68 bytes a row of 64
// are saved in what decode reads. A value is off by half a step at the most: largest / 254, or 3e-8 where
// the row's largest is below 8e-6.
#pragma once

#include "tensor/dtype.h"

namespace llamita {

inline constexpr int kPageTokens = 64;  // tokens of a page, on every device

struct KvFormat {
  DType dtype = DType::f16;  // f32, f16, bf16, or i8 with a scale a row

  bool has_scales() const { return dtype == DType::i8; }
  // Bytes of the keys, or the values, of one token and KV head.
  int64_t row_bytes(int64_t D) const;
};

}  // namespace llamita
