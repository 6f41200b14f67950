// What attn_in does around the product of linear/gemv.cuh: where rows lie, and the epilogue that adds the
// bias, rotates, and writes q and the cache.
#pragma once

#include "ops/attn_in/attn_in.h"
#include "ops/linear/gemv.cuh"
#include "quant/kv_format.h"

namespace llamita {
namespace device {

struct AttnInPlan {
  GemvWeight weight;
  const float* bias;     // or nullptr
  const float* cos_sin;  // or nullptr, R = 0
  const int64_t* slots;
  void* q;
  void* k_cache;
  void* v_cache;
  int64_t q_stride, cos_sin_stride, k_page_stride, v_page_stride;
  int tokens, heads, kv_heads, head_dim, rotated;
  DType q_dtype, cache_dtype;

  // Where rows g and g + 8 of a tile stand in their head.
  struct Place {
    int head, low, high;
    bool rotates;
  };
  __device__ __forceinline__ Place locate(int tile, int g) const {
    const int tiles_a_head = head_dim / 16;
    const int head = tile / tiles_a_head, part = tile % tiles_a_head;
    if (head < heads + kv_heads && part < rotated / 16) {
      const int low = part * 8 + g;
      return {head, low, low + rotated / 2, true};
    }
    return {head, part * 16 + g, part * 16 + g + 8, false};
  }

  __device__ __forceinline__ GemvRows rows(int tile, int g) const {
    const Place at = locate(tile, g);
    GemvRows rows{nullptr, nullptr, DType::f32};
    rows.low = weight.row(at.head * head_dim + at.low, rows.format);
    rows.high = weight.row(at.head * head_dim + at.high, rows.format);
    return rows;
  }

  __device__ __forceinline__ void put(const Place& at, int token, float low, float high) const {
    if (token >= tokens) return;
    const int row = at.head * head_dim;
    if (bias != nullptr) {
      low += bias[row + at.low];
      high += bias[row + at.high];
    }
    if (at.rotates) {
      const float cosine = cos_sin[token * cos_sin_stride + at.low];
      const float sine = cos_sin[token * cos_sin_stride + rotated / 2 + at.low];
      const float first = low;
      low = first * cosine - high * sine;
      high = high * cosine + first * sine;
    }
    if (at.head < heads) {
      store_float(q, q_dtype, token * q_stride + row + at.low, low);
      store_float(q, q_dtype, token * q_stride + row + at.high, high);
      return;
    }
    const int64_t slot = slots[token];
    if (slot < 0) return;
    const bool is_v = at.head >= heads + kv_heads;
    const int kv_head = at.head - heads - (is_v ? kv_heads : 0);
    const int64_t to = slot / kPageTokens * (is_v ? v_page_stride : k_page_stride) +
                       (int64_t{kv_head} * kPageTokens + slot % kPageTokens) * head_dim;
    store_float(is_v ? v_cache : k_cache, cache_dtype, to + at.low, low);
    store_float(is_v ? v_cache : k_cache, cache_dtype, to + at.high, high);
  }

  __device__ __forceinline__ void store(int tile, int g, int token, const float (&d)[4]) const {
    const Place at = locate(tile, g);
    put(at, token, d[0], d[2]);
    put(at, token + 1, d[1], d[3]);
  }
};

}  // namespace device

inline device::AttnInPlan attn_in_plan(const AttnInArgs& args) {
  const bool rotates = args.cos_sin.defined();
  return {.weight = gemv_weight(*args.qkv),
          .bias = data_or_null<float>(args.qkv_bias),
          .cos_sin = data_or_null<float>(args.cos_sin),
          .slots = args.kv_slot.ptr<int64_t>(),
          .q = args.q.data(),
          .k_cache = args.k_cache.data(),
          .v_cache = args.v_cache.data(),
          .q_stride = args.q.stride(0),
          .cos_sin_stride = rotates ? args.cos_sin.stride(0) : 0,
          .k_page_stride = args.k_cache.stride(0),
          .v_page_stride = args.v_cache.stride(0),
          .tokens = static_cast<int>(args.x.dim(0)),
          .heads = static_cast<int>(args.q.dim(1)),
          .kv_heads = static_cast<int>(args.k_cache.dim(1)),
          .head_dim = static_cast<int>(args.q.dim(2)),
          .rotated = rotates ? static_cast<int>(args.cos_sin.dim(1)) : 0,
          .q_dtype = args.q.dtype(),
          .cache_dtype = args.k_cache.dtype()};
}

}  // namespace llamita
