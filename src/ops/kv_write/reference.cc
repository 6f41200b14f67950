#include <algorithm>

#include "ops/cpu.h"
#include "ops/kv_write/row.h"
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

// Where the row of a slot's token and a head begins.
template <class Element>
Element* row_at(const Tensor& cache, int64_t slot, int64_t head) {
  const int64_t page = slot / kPageTokens, offset = slot % kPageTokens;
  return cache.ptr<Element>() + page * cache.stride(0) + (head * kPageTokens + offset) * cache.dim(3);
}

}  // namespace

void kv_write_head(const float* values, const Tensor& cache, int64_t slot, int64_t head) {
  if (slot < 0) return;
  const int64_t D = cache.dim(3), page = slot / kPageTokens, offset = slot % kPageTokens;
  LLAMITA_CHECK(page < cache.dim(0), "kv_write: slot ", slot, " of ", cache.dim(0), " pages");
  switch (cache.dtype()) {
    case DType::f32: return write_row(values, D, row_at<float>(cache, slot, head));
    case DType::f16: return write_row(values, D, row_at<f16>(cache, slot, head));
    case DType::i8:
      kv_scales(cache, page)[head * kPageTokens + offset] =
          quantize_kv_row(values, D, row_at<int8_t>(cache, slot, head));
      return;
    default: return write_row(values, D, row_at<bf16>(cache, slot, head));
  }
}

void kv_write_reference(const KvWriteArgs& args, Context& context) {
  const int64_t* slots = args.kv_slot.ptr<int64_t>();
  const int64_t T = args.k.dim(0), Hkv = args.k.dim(1), D = args.k.dim(2);
  context.pool().parallel_for(T, grain_for(8 * Hkv * D), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t head = 0; head < Hkv; ++head) {
        kv_write_head(args.k.ptr<float>() + t * args.k.stride(0) + head * D, args.k_cache, slots[t], head);
        kv_write_head(args.v.ptr<float>() + t * args.v.stride(0) + head * D, args.v_cache, slots[t], head);
      }
    }
  });
}

}  // namespace llamita
