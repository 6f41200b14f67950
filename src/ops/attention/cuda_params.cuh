// What the CUDA kernels of attention take, and how they find their sequence. Lengths and tables are read on
// the device, so that a captured launch serves every step within the plan's bounds.
#pragma once

#include "ops/attention/attention.h"
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"

namespace llamita::device {

struct AttentionParams {
  const void* q;
  const void* k_cache;
  const void* v_cache;
  void* out;
  const int32_t* q_start;
  const int32_t* kv_len;
  const int32_t* block_table;
  int64_t q_stride, out_stride;          // from token to token
  int64_t k_page_stride, v_page_stride;  // elements
  int64_t table_stride;
  int tokens, sequences, heads, kv_heads, head_dim, group;
  int window;  // 0: all
  bool causal;
  float scale;
  DType q_dtype, cache_dtype, out_dtype;

  // Row j of a sequence of `rows` rows and `keys` keys sees keys [first_key(p), p], p = keys - rows + j;
  // where attention is not causal every row stands at p = keys - 1.
  __device__ __forceinline__ int first_key(int position) const {
    return window > 0 ? max(0, position + 1 - window) : 0;
  }
};

// Where the first element of a key's page of one KV head lies.
template <class Element>
__device__ __forceinline__ const Element* page_of(const void* cache, int64_t page_stride, int64_t page,
                                                  int kv_head, int head_dim) {
  return static_cast<const Element*>(cache) + page * page_stride + int64_t{kv_head} * kPageTokens * head_dim;
}

// scores * this = exponents of two
inline constexpr float kLog2e = 1.4426950408889634f;

// The four lanes that hold one row of an mma fragment.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

}  // namespace llamita::device

namespace llamita {

inline device::AttentionParams attention_params(const AttentionArgs& args) {
  return {.q = args.q.data(),
          .k_cache = args.k_cache.data(),
          .v_cache = args.v_cache.data(),
          .out = args.out.data(),
          .q_start = args.q_start.ptr<int32_t>(),
          .kv_len = args.kv_len.ptr<int32_t>(),
          .block_table = args.block_table.ptr<int32_t>(),
          .q_stride = args.q.stride(0),
          .out_stride = args.out.stride(0),
          .k_page_stride = args.k_cache.stride(0),
          .v_page_stride = args.v_cache.stride(0),
          .table_stride = args.block_table.stride(0),
          .tokens = static_cast<int>(args.q.dim(0)),
          .sequences = static_cast<int>(args.kv_len.dim(0)),
          .heads = static_cast<int>(args.q.dim(1)),
          .kv_heads = static_cast<int>(args.k_cache.dim(1)),
          .head_dim = static_cast<int>(args.q.dim(2)),
          .group = static_cast<int>(args.q.dim(1) / args.k_cache.dim(1)),
          .window = args.window,
          .causal = args.causal,
          .scale = args.scale,
          .q_dtype = args.q.dtype(),
          .cache_dtype = args.k_cache.dtype(),
          .out_dtype = args.out.dtype()};
}

// The head dims that the tensor-core kernels are built for.
inline bool has_mma_head_dim(int64_t D) { return D == 64 || D == 80 || D == 96 || D == 128 || D == 256; }

// f.template operator()<Element, D>() for a cache type and one of those head dims.
template <class F>
void with_head_dim(DType cache, int64_t D, F&& f) {
  with_half_type(cache, [&]<class Element>() {
    switch (D) {
      case 64: return f.template operator()<Element, 64>();
      case 80: return f.template operator()<Element, 80>();
      case 96: return f.template operator()<Element, 96>();
      case 128: return f.template operator()<Element, 128>();
      case 256: return f.template operator()<Element, 256>();
      default: LLAMITA_CHECK(false, "attention: no kernel for head dim ", D);
    }
  });
}

// 16-byte loads of rows: pages, heads and the caches themselves at such borders.
inline bool cache_is_aligned(const AttentionArgs& args) {
  const auto aligned = [](const Tensor& cache) {
    return reinterpret_cast<uintptr_t>(cache.data()) % 16 == 0 && cache.stride(0) % 8 == 0;
  };
  return aligned(args.k_cache) && aligned(args.v_cache);
}

}  // namespace llamita
