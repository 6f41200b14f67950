// attn_in for up to eight tokens in one kernel: every block norms the tokens into its shared memory while its
// first weights are under way, multiplies its tiles of QKV rows (linear/gemv.cuh), and its epilogue adds the
// bias, rotates, and writes q and the cache.
//
// A tile is 16 rows of one head. Rotated elements come as eight rows i .. i+7 and their partners i + R/2 ..:
// the fragment gives rows g and g + 8 to one thread, which then has both halves of each rotation. The rest of
// a head, and V, come as 16 rows in order. Needs R and D in multiples of 16 and no q/k norm. Bound by the
// stream of the weights.
#include "ops/attn_in/variants.h"
#include "ops/linear/gemv.cuh"
#include "quant/kv_format.h"

namespace llamita {

namespace {

using device::GemvInput;
using device::GemvNorm;
using device::GemvRows;
using device::GemvWeight;

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
      device::store_float(q, q_dtype, token * q_stride + row + at.low, low);
      device::store_float(q, q_dtype, token * q_stride + row + at.high, high);
      return;
    }
    const int64_t slot = slots[token];
    if (slot < 0) return;
    const bool is_v = at.head >= heads + kv_heads;
    const int kv_head = at.head - heads - (is_v ? kv_heads : 0);
    const int64_t to = slot / kPageTokens * (is_v ? v_page_stride : k_page_stride) +
                       (int64_t{kv_head} * kPageTokens + slot % kPageTokens) * head_dim;
    device::store_float(is_v ? v_cache : k_cache, cache_dtype, to + at.low, low);
    device::store_float(is_v ? v_cache : k_cache, cache_dtype, to + at.high, high);
  }

  __device__ __forceinline__ void store(int tile, int g, int token, const float (&d)[4]) const {
    const Place at = locate(tile, g);
    put(at, token, d[0], d[2]);
    put(at, token + 1, d[1], d[3]);
  }
};

struct AttnInParams {
  AttnInPlan plan;
  const float* x;
  int64_t x_stride;
  GemvNorm norm;
  int tiles;
};

template <class Element, bool kBlocks>
__global__ void __launch_bounds__(device::kGemvThreads, 2)
    attn_in_gemv(const __grid_constant__ AttnInParams p) {
  extern __shared__ __align__(16) uint8_t smem[];
  const int K = p.plan.weight.K;
  device::start_successor();
  device::gemv<Element, kBlocks, 1>(p.plan, p.tiles, K, smem, [&] {
    device::wait_for_predecessor();
    return device::stage_tokens<Element>(reinterpret_cast<Element*>(smem + device::gemv_sum_bytes(1)), p.x,
                                         DType::f32, p.x_stride, p.plan.tokens, K, p.norm);
  });
}

// Heads are whole within a part, so that a tile has one format.
bool parts_hold_whole_heads(const quant::Weight& weight, int64_t D) {
  return std::all_of(weight.parts.begin(), weight.parts.end(),
                     [&](const quant::Part& part) { return part.rows % D == 0; });
}

}  // namespace

bool attn_in_gemv_supports(const AttnInArgs& args, const Caps& caps) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1), D = args.q.dim(2);
  const bool rotates = args.cos_sin.defined();
  if (T > 8 || D % 16 != 0 || (rotates && args.cos_sin.dim(1) % 16 != 0) || args.q_norm.defined())
    return false;
  if (caps.activation == DType::f32 || !gemv_supports_weight(*args.qkv)) return false;
  if (!gemv_is_dense(*args.qkv, caps.activation) && C % 32 != 0) return false;
  return parts_hold_whole_heads(*args.qkv, D) && gemv_staged_bytes(T, C) <= kGemvStagedBytes;
}

void attn_in_cuda_gemv(const AttnInArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  const int64_t H = args.q.dim(1), Hkv = args.k_cache.dim(1), D = args.q.dim(2);
  if (T == 0) return;
  const bool rotates = args.cos_sin.defined();
  const AttnInParams params{.plan = {.weight = gemv_weight(*args.qkv),
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
                                     .tokens = static_cast<int>(T),
                                     .heads = static_cast<int>(H),
                                     .kv_heads = static_cast<int>(Hkv),
                                     .head_dim = static_cast<int>(D),
                                     .rotated = rotates ? static_cast<int>(args.cos_sin.dim(1)) : 0,
                                     .q_dtype = args.q.dtype(),
                                     .cache_dtype = args.k_cache.dtype()},
                            .x = args.x.ptr<float>(),
                            .x_stride = args.x.stride(0),
                            .norm = {.weight = args.norm_weight.ptr<float>(),
                                     .bias = data_or_null<float>(args.norm_bias),
                                     .kind = args.norm_kind,
                                     .eps = args.norm_eps},
                            .tiles = static_cast<int>((H + 2 * Hkv) * D / device::kGemvRows)};
  const dim3 grid(gemv_grid(context.caps(), params.tiles));
  const auto smem = static_cast<size_t>(device::gemv_sum_bytes(1) + gemv_staged_bytes(T, C));
  with_half_type(context.caps().activation, [&]<class Element>() {
    const auto kernel = gemv_is_dense(*args.qkv, context.caps().activation) ? attn_in_gemv<Element, false>
                                                                            : attn_in_gemv<Element, true>;
    launch(context, kernel, grid, device::kGemvThreads, smem, params);
  });
}

}  // namespace llamita
