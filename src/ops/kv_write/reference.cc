#include <algorithm>
#include <type_traits>

#include "ops/cpu.h"
#include "ops/kv_write/variants.h"
#include "quant/kv_side.h"

namespace llamita {

namespace {

void write_row(const float* from, int64_t D, float* to) { std::copy_n(from, D, to); }
void write_row(const float* from, int64_t D, f16* to) {
  for (int64_t d = 0; d < D; ++d) to[d] = to_f16(from[d]);
}
void write_row(const float* from, int64_t D, bf16* to) {
  for (int64_t d = 0; d < D; ++d) to[d] = to_bf16(from[d]);
}

// Token t of `values` (T, Hkv, D) into its slot of every head of `cache`.
template <class Element>
void write_token(const Tensor& values, int64_t t, int64_t slot, const Tensor& cache) {
  const int64_t Hkv = values.dim(1), D = values.dim(2);
  const int64_t page = slot / kPageTokens, offset = slot % kPageTokens;
  LLAMITA_CHECK(page < cache.dim(0), "kv_write: slot ", slot, " of ", cache.dim(0), " pages");
  for (int64_t head = 0; head < Hkv; ++head) {
    const float* from = values.ptr<float>() + t * values.stride(0) + head * D;
    Element* to = cache.ptr<Element>() + page * cache.stride(0) + (head * kPageTokens + offset) * D;
    if constexpr (std::is_same_v<Element, int8_t>) {
      kv_scales(cache, page)[head * kPageTokens + offset] = quantize_kv_row(from, D, to);
    } else {
      write_row(from, D, to);
    }
  }
}

template <class Element>
void write_all(const KvWriteArgs& args, Context& context) {
  const int64_t* slots = args.kv_slot.ptr<int64_t>();
  const int64_t T = args.k.dim(0), row = args.k.dim(1) * args.k.dim(2);
  context.pool().parallel_for(T, grain_for(8 * row), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (slots[t] < 0) continue;
      write_token<Element>(args.k, t, slots[t], args.k_cache);
      write_token<Element>(args.v, t, slots[t], args.v_cache);
    }
  });
}

}  // namespace

void kv_write_reference(const KvWriteArgs& args, Context& context) {
  switch (args.k_cache.dtype()) {
    case DType::f32: return write_all<float>(args, context);
    case DType::f16: return write_all<f16>(args, context);
    case DType::i8: return write_all<int8_t>(args, context);
    default: return write_all<bf16>(args, context);
  }
}

}  // namespace llamita
