// attn_in for up to eight tokens in one kernel: every block norms the tokens into its shared memory while its
// first weights are under way, multiplies its tiles of QKV rows (linear/gemv.cuh), and its epilogue adds the
// bias, rotates, and writes q and the cache.
//
// A tile is 16 rows of one head. Rotated elements come as eight rows i .. i+7 and their partners i + R/2 ..:
// the fragment gives rows g and g + 8 to one thread, which then has both halves of each rotation. The rest of
// a head, and V, come as 16 rows in order. Needs R and D in multiples of 16 and no q/k norm. Bound by the
// stream of the weights.
#include "ops/attn_in/gemv_plan.cuh"
#include "ops/attn_in/variants.h"

namespace llamita {

namespace {

using device::GemvNorm;

struct AttnInParams {
  device::AttnInPlan plan;
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
  const AttnInParams params{.plan = attn_in_plan(args),
                            .x = args.x.ptr<float>(),
                            .x_stride = args.x.stride(0),
                            .norm = gemv_norm(args),
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
