#include "ops/attn_in/attn_in.h"

#include "ops/attn_in/variants.h"
#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const AttnInArgs& args) {
  LLAMITA_CHECK(args.qkv != nullptr, "attn_in: no qkv weight");
  const int64_t T = args.x.dim(0), C = args.x.dim(1), H = args.q.dim(1), D = args.q.dim(2);
  const int64_t pages = args.k_cache.dim(0), Hkv = args.k_cache.dim(1);
  const int64_t rows = (H + 2 * Hkv) * D;
  check_shape("attn_in", "x", args.x, DType::f32, {{"T", T}, {"C", C}});
  check_shape("attn_in", "norm_weight", args.norm_weight, DType::f32, {{"C", C}});
  check_optional_shape("attn_in", "norm_bias", args.norm_bias, DType::f32, {{"C", C}});
  check_prepared_norm("attn_in", args.prepared, T, C);
  LLAMITA_CHECK(!args.prepared.defined() || (args.norm_kind == NormKind::rms && !args.norm_bias.defined()),
                "attn_in: only an RMS norm without bias can be prepared");
  LLAMITA_CHECK(args.qkv->cols == C && args.qkv->rows() == rows, "attn_in: qkv must be (H*D + 2*Hkv*D ", rows,
                ", C ", C, "), got (", args.qkv->rows(), ", ", args.qkv->cols, ")");
  check_optional_shape("attn_in", "qkv_bias", args.qkv_bias, DType::f32, {{"H*D + 2*Hkv*D", rows}});
  LLAMITA_CHECK(args.q_norm.defined() == args.k_norm.defined(), "attn_in: q_norm and k_norm belong together");
  check_optional_shape("attn_in", "q_norm", args.q_norm, DType::f32, {{"D", D}});
  check_optional_shape("attn_in", "k_norm", args.k_norm, DType::f32, {{"D", D}});
  if (args.cos_sin.defined()) {
    const int64_t R = args.cos_sin.dim(1);
    check_shape("attn_in", "cos_sin", args.cos_sin, DType::f32, {{"T", T}, {"R", R}});
  }
  check_shape("attn_in", "kv_slot", args.kv_slot, DType::i64, {{"T", T}});
  for (const Tensor& cache : {args.k_cache, args.v_cache}) {
    check_kv_side("attn_in", cache, args.k_cache.dtype(), pages, Hkv, D);
  }
  check_shape("attn_in", "q", args.q, passing_dtype(args.q), {{"T", T}, {"H", H}, {"D", D}});
}

Cost cost(const AttnInArgs& args) {
  const auto T = static_cast<double>(args.x.dim(0)), C = static_cast<double>(args.x.dim(1));
  const auto N = static_cast<double>(args.qkv->rows());
  const KvFormat format{args.k_cache.dtype()};
  const int64_t kv_bytes = 2 * args.k_cache.dim(1) * format.row_bytes(args.k_cache.dim(3));
  const double x_bytes = args.prepared.defined() ? args.prepared.bytes() : 4 * T * C;
  return {.bytes_read = x_bytes + static_cast<double>(args.qkv->bytes()),
          .bytes_written = info(args.q.dtype()).block_bytes * static_cast<double>(args.q.elems()) +
                           T * static_cast<double>(kv_bytes),
          .flops = 2 * T * C * N};
}

// Only comparisons matter. For one token the composition has as few regions, and the fused op gained nothing
// that could be measured (docs/performance/cpu.md).
double composition_us(const AttnInArgs& args, const Caps&) { return 1e-4 * cost(args).flops; }
double cpu_us(const AttnInArgs& args, const Caps& caps) {
  return (args.x.dim(0) > 1 ? 0.9 : 1.1) * composition_us(args, caps);
}

constexpr std::string_view kFused[] = {"norm", "linear", "rope", "kv_write"};

constexpr Variant<AttnInArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "gemv",
     .supports = [](const AttnInArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && attn_in_gemv_supports(args, caps); },
     .estimate_us =
         [](const AttnInArgs& args, const Caps& caps) {
           return cuda_streaming_us(cost(args), caps) + cuda_gemv_norm_us(args.x.dim(0));
         },
     .run = attn_in_cuda_gemv},
    {.name = "skinny_sm90",
     .supports = attn_in_skinny_sm90_supports,
     .estimate_us = attn_in_skinny_sm90_us,
     .run = attn_in_skinny_sm90,
     .scratch_bytes = attn_in_skinny_sm90_scratch_bytes,
     .takes_prepared = true},
    {.name = "cuda_composition",
     .supports = on_cuda,
     .estimate_us =
         [](const AttnInArgs& args, const Caps& caps) {
           return cuda_streaming_us(cost(args), caps, 3) + cuda_mma_us(caps, cost(args).flops);
         },
     .run = attn_in_cuda_composition,
     .composed = true},
#endif
    {.name = "cpu",
     .supports = attn_in_cpu_supports,
     .estimate_us = cpu_us,
     .run = attn_in_cpu,
     .scratch_bytes = attn_in_cpu_scratch_bytes,
     .fuses = kFused},
    {.name = "composition",
     .supports = on_cpu,
     .estimate_us = composition_us,
     .run = attn_in_composition,
     .composed = true,
     .takes_prepared = true},
};

}  // namespace

const Op<AttnInArgs>& attn_in_op() {
  static constexpr Op<AttnInArgs> kOp{"attn_in", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
