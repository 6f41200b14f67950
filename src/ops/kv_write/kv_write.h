// kv_write: puts the keys and values of a step's tokens into their cache slots, rounded to the cache's
// format.
#pragma once

#include "ops/op.h"
#include "quant/kv_format.h"

namespace llamita {

struct KvWriteArgs {
  Tensor k;        // (T, Hkv, D) f32, on a GPU also bf16 or f16; tokens may be strided
  Tensor v;        // the same
  Tensor kv_slot;  // (T) i64: page * kPageTokens + offset; negative: not written
  Tensor k_cache;  // (pages, Hkv, kPageTokens, D) f32, f16, bf16, or on a CPU i8: quant/kv_format.h
  Tensor v_cache;  // the same
};

const Op<KvWriteArgs>& kv_write_op();
inline void kv_write(const KvWriteArgs& args, Context& context) { run(kv_write_op(), args, context); }

}  // namespace llamita
