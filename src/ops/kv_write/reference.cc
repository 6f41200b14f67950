#include <type_traits>

#include "ops/cpu.h"
#include "ops/kv_write/row.h"
#include "ops/kv_write/variants.h"

namespace llamita {

namespace {

template <class Element>
Element round_to(float value) {
  if constexpr (std::is_same_v<Element, float>) return value;
  if constexpr (std::is_same_v<Element, f16>) return to_f16(value);
  if constexpr (std::is_same_v<Element, bf16>) return to_bf16(value);
}

template <class Element>
void write_head(const float* values, const Tensor& cache, int64_t slot, int64_t head) {
  const int64_t D = cache.dim(3), page = slot / kPageTokens, offset = slot % kPageTokens;
  Element* to = cache.ptr<Element>() + page * cache.stride(0) + (head * kPageTokens + offset) * D;
  for (int64_t d = 0; d < D; ++d) to[d] = round_to<Element>(values[d]);
}

}  // namespace

void kv_write_head(const float* values, const Tensor& cache, int64_t slot, int64_t head) {
  if (slot < 0) return;
  LLAMITA_CHECK(slot / kPageTokens < cache.dim(0), "kv_write: slot ", slot, " of ", cache.dim(0), " pages");
  switch (cache.dtype()) {
    case DType::f32: return write_head<float>(values, cache, slot, head);
    case DType::f16: return write_head<f16>(values, cache, slot, head);
    default: return write_head<bf16>(values, cache, slot, head);
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
