// The steps of attn_in behind the projection in one kernel: q/k norm, rotary embedding, the write of K and V,
// and q on its way. A warp a head of a token; the head passes through the warp's shared memory, so that every
// element can meet the one it is rotated with.
#include "ops/attn_in/cuda_heads.h"
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/reduce.cuh"
#include "quant/kv_format.h"

namespace llamita {

namespace {

constexpr int kWarps = 8;

struct HeadsParams {
  const void* qkv;  // (T, (H + 2 Hkv) D)
  DType qkv_dtype, q_dtype, cache_dtype;
  int64_t qkv_stride, q_stride, cos_sin_stride, k_page_stride, v_page_stride;
  const float* q_norm;  // or nullptr
  const float* k_norm;
  const float* cos_sin;  // or nullptr
  const int64_t* slots;
  void* q;
  void* k_cache;
  void* v_cache;
  int64_t tokens;
  int heads, kv_heads, head_dim, rotated;
  float eps;
};

__global__ void __launch_bounds__(32 * kWarps) finish_heads(const __grid_constant__ HeadsParams p) {
  extern __shared__ float staged[];  // (kWarps, D)
  device::start_successor();
  device::wait_for_predecessor();
  const int lane = threadIdx.x % 32, all_heads = p.heads + 2 * p.kv_heads;
  const int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (item >= p.tokens * all_heads) return;
  const int64_t t = item / all_heads;
  const int head = static_cast<int>(item % all_heads);
  const bool is_q = head < p.heads, is_v = head >= p.heads + p.kv_heads;
  float* x = staged + threadIdx.x / 32 * p.head_dim;

  float squares = 0;
  for (int d = lane; d < p.head_dim; d += 32) {
    x[d] = device::load_float(p.qkv, p.qkv_dtype, t * p.qkv_stride + int64_t{head} * p.head_dim + d);
    squares += x[d] * x[d];
  }
  const float* weight = is_v ? nullptr : is_q ? p.q_norm : p.k_norm;
  if (weight != nullptr) {
    const float inverse = 1.0f / sqrtf(device::warp_sum(squares) / static_cast<float>(p.head_dim) + p.eps);
    for (int d = lane; d < p.head_dim; d += 32) x[d] *= inverse * weight[d];
  }
  __syncwarp();

  const int pairs = is_v ? 0 : p.rotated / 2;
  const int64_t slot = p.slots[t];
  const int64_t page = slot / kPageTokens;
  const int kv_head = head - p.heads - (is_v ? p.kv_heads : 0);
  const int64_t in_page = (int64_t{kv_head} * kPageTokens + slot % kPageTokens) * p.head_dim;
  for (int d = lane; d < p.head_dim; d += 32) {
    float value = x[d];
    if (d < 2 * pairs) {
      const int pair = d < pairs ? d : d - pairs;
      const float cosine = p.cos_sin[t * p.cos_sin_stride + pair];
      const float sine = p.cos_sin[t * p.cos_sin_stride + pairs + pair];
      value = d < pairs ? x[d] * cosine - x[d + pairs] * sine : x[d] * cosine + x[d - pairs] * sine;
    }
    if (is_q)
      device::store_float(p.q, p.q_dtype, t * p.q_stride + int64_t{head} * p.head_dim + d, value);
    else if (slot >= 0)
      device::store_float(is_v ? p.v_cache : p.k_cache, p.cache_dtype,
                          page * (is_v ? p.v_page_stride : p.k_page_stride) + in_page + d, value);
  }
}

}  // namespace

void attn_in_finish_heads(const AttnInArgs& args, const Tensor& qkv, Context& context) {
  const int64_t T = args.q.dim(0), H = args.q.dim(1), Hkv = args.k_cache.dim(1), D = args.q.dim(2);
  const bool rotates = args.cos_sin.defined();
  const HeadsParams params{.qkv = qkv.data(),
                           .qkv_dtype = qkv.dtype(),
                           .q_dtype = args.q.dtype(),
                           .cache_dtype = args.k_cache.dtype(),
                           .qkv_stride = qkv.stride(0),
                           .q_stride = args.q.stride(0),
                           .cos_sin_stride = rotates ? args.cos_sin.stride(0) : 0,
                           .k_page_stride = args.k_cache.stride(0),
                           .v_page_stride = args.v_cache.stride(0),
                           .q_norm = data_or_null<float>(args.q_norm),
                           .k_norm = data_or_null<float>(args.k_norm),
                           .cos_sin = data_or_null<float>(args.cos_sin),
                           .slots = args.kv_slot.ptr<int64_t>(),
                           .q = args.q.data(),
                           .k_cache = args.k_cache.data(),
                           .v_cache = args.v_cache.data(),
                           .tokens = T,
                           .heads = static_cast<int>(H),
                           .kv_heads = static_cast<int>(Hkv),
                           .head_dim = static_cast<int>(D),
                           .rotated = rotates ? static_cast<int>(args.cos_sin.dim(1)) : 0,
                           .eps = args.norm_eps};
  launch(context, finish_heads, dim3(ceil_div(T * (H + 2 * Hkv), kWarps)), 32 * kWarps,
         static_cast<size_t>(kWarps * D) * sizeof(float), params);
}

}  // namespace llamita
