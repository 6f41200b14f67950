#include "ops/mlp_in/mlp_in.h"

#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/mlp_in/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const MlpInArgs& args) {
  LLAMITA_CHECK(args.in != nullptr, "mlp_in: no weight");
  const int64_t T = args.x.dim(0), C = args.x.dim(1), F = args.out.dim(1);
  const int64_t rows = args.gated ? 2 * F : F;
  check_shape("mlp_in", "x", args.x, DType::f32, {{"T", T}, {"C", C}});
  check_shape("mlp_in", "norm_weight", args.norm_weight, DType::f32, {{"C", C}});
  check_optional_shape("mlp_in", "norm_bias", args.norm_bias, DType::f32, {{"C", C}});
  check_prepared_norm("mlp_in", args.prepared, T, C);
  LLAMITA_CHECK(!args.prepared.defined() || (args.norm_kind == NormKind::rms && !args.norm_bias.defined()),
                "mlp_in: only an RMS norm without bias can be prepared");
  LLAMITA_CHECK(args.in->cols == C && args.in->rows() == rows, "mlp_in: in must be (",
                args.gated ? "2F " : "F ", rows, ", C ", C, "), got (", args.in->rows(), ", ", args.in->cols,
                ")");
  check_optional_shape("mlp_in", "bias", args.bias, DType::f32, {{args.gated ? "2F" : "F", rows}});
  check_shape("mlp_in", "out", args.out, passing_dtype(args.out), {{"T", T}, {"F", F}});
}

Cost cost(const MlpInArgs& args) {
  const auto T = static_cast<double>(args.x.dim(0)), C = static_cast<double>(args.x.dim(1));
  const double x_bytes = args.prepared.defined() ? args.prepared.bytes() : 4 * T * C;
  return {.bytes_read = x_bytes + static_cast<double>(args.in->bytes()),
          .bytes_written = info(args.out.dtype()).block_bytes * static_cast<double>(args.out.elems()),
          .flops = 2 * T * C * static_cast<double>(args.in->rows())};
}

// Only comparisons matter. For one token the composition has as few regions, and the fused op gained nothing
// that could be measured (docs/performance/cpu.md).
double composition_us(const MlpInArgs& args, const Caps&) { return 1e-4 * cost(args).flops; }
double cpu_us(const MlpInArgs& args, const Caps& caps) {
  return (args.x.dim(0) > 1 ? 0.9 : 1.1) * composition_us(args, caps);
}

constexpr std::string_view kFused[] = {"norm", "linear", "activation"};

constexpr Variant<MlpInArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "gemv",
     .supports = [](const MlpInArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && mlp_in_gemv_supports(args, caps); },
     .estimate_us =
         [](const MlpInArgs& args, const Caps& caps) {
           return cuda_streaming_us(cost(args), caps) + cuda_gemv_norm_us(args.x.dim(0));
         },
     .run = mlp_in_cuda_gemv},
    {.name = "skinny_sm90",
     .supports = mlp_in_skinny_sm90_supports,
     .estimate_us = mlp_in_skinny_sm90_us,
     .run = mlp_in_skinny_sm90,
     .scratch_bytes = mlp_in_skinny_sm90_scratch_bytes,
     .takes_prepared = true},
    {.name = "gemm_sm90",
     .supports = mlp_in_gemm_sm90_supports,
     .estimate_us = mlp_in_gemm_sm90_us,
     .run = mlp_in_gemm_sm90,
     .scratch_bytes = mlp_in_gemm_sm90_scratch_bytes},
    {.name = "gemm_sm90_ping_pong",
     .supports = mlp_in_gemm_sm90_supports,
     .estimate_us = mlp_in_gemm_sm90_ping_pong_us,
     .run = mlp_in_gemm_sm90_ping_pong,
     .scratch_bytes = mlp_in_gemm_sm90_scratch_bytes},
    {.name = "cuda_composition",
     .supports = on_cuda,
     .estimate_us =
         [](const MlpInArgs& args, const Caps& caps) {
           // What the product gives goes to memory and back in fp32.
           const double between =
               8 * static_cast<double>(args.x.dim(0)) * static_cast<double>(args.in->rows());
           return cuda_streaming_us(cost(args), caps, 3) + cuda_memory_us(caps, between) +
                  cuda_mma_us(caps, cost(args).flops);
         },
     .run = mlp_in_composition,
     .composed = true},
#endif
    {.name = "cpu",
     .supports = mlp_in_cpu_supports,
     .estimate_us = cpu_us,
     .run = mlp_in_cpu,
     .scratch_bytes = mlp_in_cpu_scratch_bytes,
     .fuses = kFused},
    {.name = "composition",
     .supports = on_cpu,
     .estimate_us = composition_us,
     .run = mlp_in_composition,
     .composed = true,
     .takes_prepared = true},
};

}  // namespace

const Op<MlpInArgs>& mlp_in_op() {
  static constexpr Op<MlpInArgs> kOp{"mlp_in", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
