// skinny_sm90: a norm, unless it comes prepared, then one product for up to 128 tokens
// (linear/skinny_sm90.cuh) whose epilogue adds the bias, rotates, and writes q and the K and V pages. Pairs
// are the elements that are rotated with each other.
#include "ops/linear/skinny_sm90.cuh"

#include <numeric>

#include "ops/attn_in/variants.h"
#include "ops/cuda.h"
#include "ops/cuda/launch.cuh"
#include "ops/linear/dense_matrices.h"

namespace llamita {

namespace {

namespace skinny = skinny_sm90_detail;

struct HeadsEpilogue {
  static constexpr bool kPairs = true;
  static constexpr int kReadsAhead = 0;
  struct Reads {};

  const float* bias;     // (N) or nullptr
  const float* cos_sin;  // (T, D) or nullptr
  const int64_t* slots;
  void* q;
  void* k_cache;
  void* v_cache;
  int64_t q_stride, cos_sin_stride, k_page_stride, v_page_stride;
  int heads, kv_heads, head_dim;
  DType dtype;  // of q and the caches

  // Elements `at` to `at` + 3 of a head and their partners, D / 2 further.
  __device__ __forceinline__ void put(int pair, int token, float4 first, float4 second, Reads) const {
    const int half = head_dim / 2, head = pair / half, at = pair - head * half;
    if (head >= heads + 2 * kv_heads) return;
    float low[4] = {first.x, first.y, first.z, first.w}, high[4] = {second.x, second.y, second.z, second.w};
    if (bias != nullptr) {
      const float* from = bias + head * head_dim + at;
#pragma unroll
      for (int i = 0; i < 4; ++i) low[i] += from[i], high[i] += from[half + i];
    }
    if (cos_sin != nullptr && head < heads + kv_heads) {
      const float* angle = cos_sin + token * cos_sin_stride + at;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float cosine = angle[i], sine = angle[half + i], x = low[i];
        low[i] = x * cosine - high[i] * sine;
        high[i] = high[i] * cosine + x * sine;
      }
    }
    if (head < heads) return store(q, token * q_stride + head * head_dim + at, low, high);
    const int64_t slot = slots[token];
    if (slot < 0) return;
    const bool is_v = head >= heads + kv_heads;
    const int kv_head = head - heads - (is_v ? kv_heads : 0);
    store(is_v ? v_cache : k_cache,
          slot / kPageTokens * (is_v ? v_page_stride : k_page_stride) +
              (int64_t{kv_head} * kPageTokens + slot % kPageTokens) * head_dim + at,
          low, high);
  }

 private:
  // Both types have two bytes; four lie at an 8-byte border.
  __device__ __forceinline__ void store(void* data, int64_t at, const float (&low)[4],
                                        const float (&high)[4]) const {
    uint2* to = reinterpret_cast<uint2*>(static_cast<uint16_t*>(data) + at);
    to[0] = make_uint2(pack(low[0], low[1]), pack(low[2], low[3]));
    to[head_dim / 8] = make_uint2(pack(high[0], high[1]), pack(high[2], high[3]));
  }
  __device__ __forceinline__ uint32_t pack(float low, float high) const {
    return dtype == DType::bf16 ? device::pack2<__nv_bfloat16>(low, high) : device::pack2<__half>(low, high);
  }
};

bool four_at_a_time(const void* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 8 == 0 && stride % 4 == 0;
}

// The product as its checks and its estimate see it.
SkinnySm90 product_of(const AttnInArgs& args) {
  SkinnySm90 g{};
  g.w = args.qkv->parts.front().storage.data();
  g.element = args.qkv->parts.front().format;
  g.M = static_cast<int>(args.x.dim(0));
  g.N = static_cast<int>(args.qkv->rows());
  g.K = static_cast<int>(args.qkv->cols);
  g.x_stride = g.K;
  g.out_dtype = args.q.dtype();
  return g;
}

}  // namespace

bool attn_in_skinny_sm90_supports(const AttnInArgs& args, const Caps& caps) {
  const int64_t D = args.q.dim(2);
  if (args.prepared.defined() && args.prepared.scaled.dtype() != caps.activation) return false;
  // Boxes that are whole parts of half a head.
  if (D % 64 != 0 && D != 32 && D != 16) return false;
  if (!four_at_a_time(args.q.data(), args.q.stride(0)) ||
      !four_at_a_time(args.k_cache.data(), args.k_cache.stride(0)) ||
      !four_at_a_time(args.v_cache.data(), args.v_cache.stride(0)))
    return false;
  if (args.q_norm.defined()) return false;
  if (args.cos_sin.defined() && args.cos_sin.dim(1) != D) return false;
  if (args.qkv->parts.empty() || args.qkv->layout != quant::Layout::rows) return false;
  for (const quant::Part& part : args.qkv->parts)
    if (part.format != caps.activation) return false;
  if (args.q.dtype() != caps.activation || args.k_cache.dtype() != caps.activation) return false;
  int matrices = 0;
  for_each_dense_matrix(*args.qkv, [&](const void*, int64_t, int64_t) { ++matrices; });
  return matrices == 1 && skinny_sm90_supports(product_of(args), caps);
}

double attn_in_skinny_sm90_us(const AttnInArgs& args, const Caps& caps) {
  return (args.prepared.defined() ? 0 : 1.5) + skinny_sm90_us(product_of(args), caps);
}

int64_t attn_in_skinny_sm90_scratch_bytes(const AttnInArgs& args, const Caps&) {
  return args.prepared.defined() ? 0 : (args.x.elems() * 2 + 63) / 64 * 64;  // the normed tokens
}

void attn_in_skinny_sm90(const AttnInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1), D = args.q.dim(2);
  if (T == 0) return;
  const Arena::Scope scope(context.arena());
  Tensor x = args.prepared.scaled;
  if (!args.prepared.defined()) {
    x = context.arena().take(context.caps().activation, {T, C});
    norm_inside(args, x, context);
  }
  const HeadsEpilogue epilogue{.bias = data_or_null<float>(args.qkv_bias),
                               .cos_sin = data_or_null<float>(args.cos_sin),
                               .slots = args.kv_slot.ptr<int64_t>(),
                               .q = args.q.data(),
                               .k_cache = args.k_cache.data(),
                               .v_cache = args.v_cache.data(),
                               .q_stride = args.q.stride(0),
                               .cos_sin_stride = args.cos_sin.defined() ? args.cos_sin.stride(0) : 0,
                               .k_page_stride = args.k_cache.stride(0),
                               .v_page_stride = args.v_cache.stride(0),
                               .heads = static_cast<int>(args.q.dim(1)),
                               .kv_heads = static_cast<int>(args.k_cache.dim(1)),
                               .head_dim = static_cast<int>(D),
                               .dtype = args.q.dtype()};
  const SkinnySm90 g = product_of(args);
  const SkinnyPlan plan = skinny_sm90_plan(g.M, g.N, g.K, context.caps());
  const int half = static_cast<int>(D) / 2;
  const skinny::Layout layout{.box_rows = std::gcd(half, plan.tile_rows / 2),
                              .run_pairs = device::Divider(half),
                              .run_rows = static_cast<int>(D),
                              .second_step = half};
  with_half_type(g.element, [&]<class Element>() {
    skinny::with_tile(plan, [&]<int kTokens, int kBlocks>() {
      skinny::launch<skinny::Config<Element, kTokens, kBlocks, HeadsEpilogue>>(
          {x.data(), g.w, g.w, g.element, g.M, g.N, g.K, g.x_stride,
           skinny_norm(args.prepared, args.norm_eps)},
          layout, epilogue, plan, context);
    });
  });
}

}  // namespace llamita
