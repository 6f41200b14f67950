// KvFormat: how keys and values lie in the cache. K and V of a layer are (pages, Hkv, page, D) each.
#pragma once

#include "tensor/dtype.h"

namespace llamita {

inline constexpr int kPageTokens = 64;  // tokens of a page, on every device

struct KvFormat {
  DType dtype = DType::f16;  // f32, f16 or bf16
};

}  // namespace llamita
