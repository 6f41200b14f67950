// skinny_sm90: a norm, then one product for up to 128 tokens (linear/skinny_sm90.cuh) whose epilogue adds the
// bias, rotates, and writes q and the K and V pages. Pairs are the elements that are rotated with each other.
#include "ops/linear/skinny_sm90.cuh"

#include <algorithm>

#include "ops/attn_in/variants.h"
#include "ops/cuda.h"
#include "ops/cuda/launch.cuh"
#include "ops/linear/dense_matrices.h"

namespace llamita {

namespace {

namespace skinny = skinny_sm90_detail;

struct HeadsEpilogue {
  static constexpr bool kPairs = true;
  static constexpr int kBatch = 2;

  struct Extra {
    float bias, bias_second, cosine, sine;
    int64_t slot;
  };

  const float* bias;     // (N) or nullptr
  const float* cos_sin;  // (T, D) or nullptr
  const int64_t* slots;
  void* q;
  void* k_cache;
  void* v_cache;
  int64_t q_stride, cos_sin_stride, k_page_stride, v_page_stride;
  int tokens, heads, kv_heads, head_dim;
  DType dtype;  // of q and the caches

  // Elements `at` and at + D / 2 of a head.
  struct Place {
    int head, at;
  };
  __device__ __forceinline__ Place locate(int tile, int row) const {
    const int pair = tile * skinny::kPairs + row, half = head_dim / 2;
    return {pair / half, pair % half};
  }

  __device__ __forceinline__ Extra load(int tile, int row, int token) const {
    Extra extra{0, 0, 1, 0, -1};
    const Place place = locate(tile, row);
    if (token >= tokens || place.head >= heads + 2 * kv_heads) return extra;
    const int half = head_dim / 2, from = place.head * head_dim + place.at;
    if (bias != nullptr) extra.bias = bias[from], extra.bias_second = bias[from + half];
    if (cos_sin != nullptr && place.head < heads + kv_heads) {
      extra.cosine = cos_sin[token * cos_sin_stride + place.at];
      extra.sine = cos_sin[token * cos_sin_stride + half + place.at];
    }
    if (place.head >= heads) extra.slot = slots[token];
    return extra;
  }

  __device__ __forceinline__ void put(int tile, int row, int token, float first, float second,
                                      const Extra& extra) const {
    const Place place = locate(tile, row);
    if (token >= tokens || place.head >= heads + 2 * kv_heads) return;
    const int half = head_dim / 2;
    first += extra.bias;
    second += extra.bias_second;
    const float low = first * extra.cosine - second * extra.sine;
    const float high = second * extra.cosine + first * extra.sine;
    if (place.head < heads) {
      const int64_t to = token * q_stride + place.head * head_dim + place.at;
      device::store_float(q, dtype, to, low);
      device::store_float(q, dtype, to + half, high);
      return;
    }
    if (extra.slot < 0) return;
    const bool is_v = place.head >= heads + kv_heads;
    const int kv_head = place.head - heads - (is_v ? kv_heads : 0);
    const int64_t to = extra.slot / kPageTokens * (is_v ? v_page_stride : k_page_stride) +
                       (int64_t{kv_head} * kPageTokens + extra.slot % kPageTokens) * head_dim + place.at;
    device::store_float(is_v ? v_cache : k_cache, dtype, to, low);
    device::store_float(is_v ? v_cache : k_cache, dtype, to + half, high);
  }
};

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
  // Boxes of 32 rows, or of fewer that are whole halves of heads.
  if (D % 64 != 0 && D != 32 && D != 16) return false;
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
  return 2 + skinny_sm90_us(product_of(args), caps);
}

int64_t attn_in_skinny_sm90_scratch_bytes(const AttnInArgs& args, const Caps&) {
  return (args.x.elems() * 2 + 63) / 64 * 64;  // the normed tokens
}

void attn_in_skinny_sm90(const AttnInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1), D = args.q.dim(2);
  if (T == 0) return;
  const Arena::Scope scope(context.arena());
  const Tensor normed = context.arena().take(context.caps().activation, {T, C});
  norm_inside(args, normed, context);
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
                               .tokens = static_cast<int>(T),
                               .heads = static_cast<int>(args.q.dim(1)),
                               .kv_heads = static_cast<int>(args.k_cache.dim(1)),
                               .head_dim = static_cast<int>(D),
                               .dtype = args.q.dtype()};
  const SkinnySm90 g = product_of(args);
  const SkinnyPlan plan = skinny_sm90_plan(g.M, g.N, g.K, context.caps());
  const int half = static_cast<int>(D) / 2;
  const skinny::Layout layout{.box_rows = std::min(half, skinny::kPairs),
                              .run_pairs = half,
                              .run_rows = static_cast<int>(D),
                              .second_step = half};
  with_half_type(g.element, [&]<class Element>() {
    skinny::with_tokens(plan, [&]<int kTokens>() {
      skinny::launch<skinny::Config<Element, kTokens, HeadsEpilogue>>(
          {normed.data(), g.w, g.w, g.element, g.M, g.N, g.K, g.x_stride, plan.tiles}, layout, epilogue, plan,
          context);
    });
  });
}

}  // namespace llamita
