// kv_write of one head of one token on the CPU, for fused ops: the bits of kv_write.
#pragma once

#include "ops/kv_write/kv_write.h"

namespace llamita {

// `values`: D floats to `head` of `slot` in one side of the cache; nothing for a negative slot.
void kv_write_head(const float* values, const Tensor& cache, int64_t slot, int64_t head);

}  // namespace llamita
