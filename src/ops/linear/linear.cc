#include "ops/linear/linear.h"

#include "hw/cpu/bf16_rate.h"
#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/linear/kernels.h"
#include "ops/linear/variants.h"
#include "ops/shape_check.h"
#include "quant/unpack.h"

namespace llamita {

namespace {

void check(const LinearArgs& args) {
  LLAMITA_CHECK(args.weight != nullptr, "linear: no weight");
  const quant::Weight& weight = *args.weight;
  const int64_t T = args.x.dim(0), N = weight.rows(), K = weight.cols;
  check_shape("linear", "x", args.x, passing_dtype(args.x), {{"T", T}, {"K", K}});
  check_optional_shape("linear", "bias", args.bias, DType::f32, {{"N", N}});
  check_optional_shape("linear", "residual", args.residual, passing_dtype(args.residual),
                       {{"T", T}, {"N", N}});
  check_shape("linear", "out", args.out, passing_dtype(args.out), {{"T", T}, {"N", N}});
  check_optional_shape("linear", "next_gain", args.next_gain, DType::f32, {{"N", N}});
  check_prepared_norm("linear", args.prepared, T, N);
  LLAMITA_CHECK(args.next_gain.defined() == args.prepared.defined(),
                "linear: next_gain and prepared belong together");
  LLAMITA_CHECK(!args.prepared.defined() || args.out.dtype() == DType::f32,
                "linear: a norm can be prepared of an f32 out only");
  LLAMITA_CHECK(weight.experts == 1, "linear: a weight of ", weight.experts, " experts");
  for (const quant::Part& part : weight.parts) {
    LLAMITA_CHECK(quant::is_weight_format(part.format), "linear: part ", part.name, " is ",
                  name(part.format));
    LLAMITA_CHECK(K % info(part.format).block_elems == 0, "linear: K ", K, " is no whole ", name(part.format),
                  " blocks");
  }
}

double multiplications(const LinearArgs& args) {
  return static_cast<double>(args.x.elems()) * static_cast<double>(args.weight->rows());
}

Cost cost(const LinearArgs& args) {
  const auto outputs = static_cast<double>(args.out.elems());
  const auto N = static_cast<double>(args.weight->rows());
  double read = static_cast<double>(args.weight->bytes()) +
                info(args.x.dtype()).block_bytes * static_cast<double>(args.x.elems());
  if (args.bias.defined()) read += 4 * N;
  if (args.prepared.defined()) read += 4 * N;
  if (args.residual.defined()) read += info(args.residual.dtype()).block_bytes * outputs;
  return {.bytes_read = read,
          .bytes_written = info(args.out.dtype()).block_bytes * outputs + args.prepared.bytes(),
          .flops = 2 * multiplications(args)};
}

template <cpu::Isa isa>
bool on_rows_with(const LinearArgs& args, const Caps& caps) {
  return on_cpu(args, caps) && caps.isa >= isa;
}

// In nanoseconds for a weight, as measured with Q4_1 on a 3.5 GHz core: decoding, once for each pass over the
// weights, and multiplying, for each token. Only comparisons matter.
template <cpu::Isa isa>
double rows_us(const LinearArgs& args, const Caps&) {
  const int64_t T = args.x.dim(0);
  const auto passes = static_cast<double>(T / 4 + T % 4 / 2 + T % 2);
  const double speed = isa == cpu::Isa::avx512 ? 0.6 : 1.0;
  const auto weights = static_cast<double>(args.weight->rows() * args.weight->cols);
  return speed * 1e-3 * weights * (passes * 0.12 + static_cast<double>(T) * 0.03);
}

template <cpu::Isa isa>
double panel_us(const LinearArgs& args, const Caps&) {
  const int64_t T = args.x.dim(0);
  const auto passes = static_cast<double>((T + 127) / 128), tiles = static_cast<double>((T + 3) / 4);
  const double speed = isa == cpu::Isa::avx512 ? 0.6 : 1.0;
  const auto weights = static_cast<double>(args.weight->rows() * args.weight->cols);
  if (isa == cpu::Isa::avx512 && T <= kStreamTokens) {  // bound by memory, but for the second eight tokens
    return speed * 1e-3 * weights * (0.13 + 0.04 * static_cast<double>((T + 7) / 8));
  }
  return speed * 1e-3 * weights * (passes * 0.2 + tiles * 0.08);
}

template <cpu::Isa isa>
bool on_blocks_with(const LinearArgs& args, const Caps& caps) {
  return on_rows_with<isa>(args, caps) && linear_has_blocks(args);
}

// Rounding the activations is the default for block formats: the estimate is far below that of any other
// variant of the instruction set, whose weights are unpacked to f32.
template <cpu::Isa isa>
double int8_us(const LinearArgs& args, const Caps&) {
  const int64_t T = args.x.dim(0);
  const double speed = isa == cpu::Isa::avx512 ? 0.5 : 1.0;
  const auto weights = static_cast<double>(args.weight->rows() * args.weight->cols);
  return speed * 1e-3 * weights * (0.05 + static_cast<double>(T) * 0.008);
}

// Rounding the activations is the default for bf16 weights where the processor multiplies bf16 faster: what
// it costs is below what the weights' own rounding did.
bool bf16_supports(const LinearArgs& args, const Caps& caps) {
  return on_rows_with<cpu::Isa::avx512>(args, caps) && linear_is_bf16(args);
}
double bf16_us(const LinearArgs& args, const Caps& caps) {
  const double factor = cpu::bf16_is_faster_than_f32() ? 0.5 : 2;
  return factor * std::min(rows_us<cpu::Isa::avx512>(args, caps), panel_us<cpu::Isa::avx512>(args, caps));
}

#if LLAMITA_HAVE_CUDA
bool cuda_reads(const LinearArgs& args, const Caps& caps) {
  return on_cuda(args, caps) && linear_cuda_reads(*args.weight);
}

// The warp-a-row kernel reads the weights once a token and shares nothing.
double cuda_simple_us(const LinearArgs& args, const Caps& caps) {
  const auto T = static_cast<double>(args.x.dim(0));
  return kCudaLaunchUs + 2 * cuda_memory_us(caps, T * static_cast<double>(args.weight->bytes()));
}

// More tokens repeat the reading of x, which comes from L2: 2048 x 2048 takes 5.9 us at 4 tokens, 9.6 at 32.
double gemv_us(const LinearArgs& args, const Caps& caps) {
  return (1 + cuda_streaming_us(cost(args), caps)) * (1 + 0.02 * static_cast<double>(args.x.dim(0)));
}
#endif

constexpr Variant<LinearArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "gemv",
     .supports = [](const LinearArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && linear_gemv_supports(args, caps); },
     .estimate_us = gemv_us,
     .run = linear_cuda_gemv},
    {.name = "gemv_blocks",
     .supports =
         [](const LinearArgs& args, const Caps& caps) {
           return on_cuda(args, caps) && linear_gemv_blocks_supports(args, caps);
         },
     .estimate_us = gemv_us,
     .run = linear_cuda_gemv_blocks},
    // A token's bits do not depend on the others of its tile of tokens (skinny_sm90.cuh).
    {.name = "skinny_sm90",
     .supports = linear_skinny_sm90_supports,
     .estimate_us = linear_skinny_sm90_us,
     .run = linear_cuda_skinny_sm90,
     .scratch_bytes = linear_skinny_sm90_scratch_bytes,
     .takes_prepared = true},
    {.name = "gemm_sm90",
     .supports = linear_gemm_sm90_supports,
     .estimate_us = linear_gemm_sm90_us,
     .run = linear_cuda_gemm_sm90},
    {.name = "gemm_sm90_ping_pong",
     .supports = linear_gemm_sm90_supports,
     .estimate_us = linear_gemm_sm90_ping_pong_us,
     .run = linear_gemm_sm90_ping_pong},
    {.name = "gemm_sm80",
     .supports =
         [](const LinearArgs& args, const Caps& caps) {
           return on_cuda(args, caps) && linear_gemm_sm80_supports(args, caps);
         },
     .estimate_us = linear_gemm_sm80_us,
     .run = linear_cuda_gemm_sm80,
     .scratch_bytes = linear_gemm_sm80_scratch},
    {.name = "cublaslt",
     .supports = linear_cublaslt_supports,
     .estimate_us = linear_cublaslt_us,
     .run = linear_cublaslt,
     .scratch_bytes = linear_cublaslt_scratch},
    {.name = "cuda_simple", .supports = cuda_reads, .estimate_us = cuda_simple_us, .run = linear_cuda_simple},
#endif
    {.name = "cpu_int8_avx512",
     .supports = on_blocks_with<cpu::Isa::avx512>,
     .estimate_us = int8_us<cpu::Isa::avx512>,
     .run = linear_cpu_int8_avx512,
     .scratch_bytes = linear_cpu_int8_avx512_scratch_bytes},
    {.name = "cpu_int8_avx2",
     .supports = on_blocks_with<cpu::Isa::avx2>,
     .estimate_us = int8_us<cpu::Isa::avx2>,
     .run = linear_cpu_int8_avx2,
     .scratch_bytes = linear_cpu_int8_avx2_scratch_bytes},
    {.name = "cpu_bf16_avx512",
     .supports = bf16_supports,
     .estimate_us = bf16_us,
     .run = linear_cpu_bf16_avx512,
     .scratch_bytes = linear_cpu_bf16_scratch_bytes},
    {.name = "cpu_rows_avx512",
     .supports = on_rows_with<cpu::Isa::avx512>,
     .estimate_us = rows_us<cpu::Isa::avx512>,
     .run = linear_cpu_rows_avx512,
     .scratch_bytes = linear_cpu_scratch_bytes},
    {.name = "cpu_panel_avx512",
     .supports = on_rows_with<cpu::Isa::avx512>,
     .estimate_us = panel_us<cpu::Isa::avx512>,
     .run = linear_cpu_panel_avx512,
     .scratch_bytes = linear_cpu_panel_scratch_bytes},
    {.name = "cpu_rows_avx2",
     .supports = on_rows_with<cpu::Isa::avx2>,
     .estimate_us = rows_us<cpu::Isa::avx2>,
     .run = linear_cpu_rows_avx2,
     .scratch_bytes = linear_cpu_scratch_bytes},
    {.name = "cpu_panel_avx2",
     .supports = on_rows_with<cpu::Isa::avx2>,
     .estimate_us = panel_us<cpu::Isa::avx2>,
     .run = linear_cpu_panel_avx2,
     .scratch_bytes = linear_cpu_panel_scratch_bytes},
    {.name = "int8_reference",
     .supports = on_blocks_with<cpu::Isa::generic>,
     .estimate_us = [](const LinearArgs& args, const Caps&) { return 1e-3 * multiplications(args); },
     .run = linear_int8_reference,
     .scratch_bytes = linear_int8_reference_scratch_bytes},
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const LinearArgs& args, const Caps&) { return 2e-3 * multiplications(args); },
     .run = linear_reference,
     .scratch_bytes = [](const LinearArgs& args, const Caps&) { return 4 * args.weight->cols; },
     .takes_prepared = true},
};

}  // namespace

quant::Layout linear_layout(const Caps& caps) {
  const bool vectors = caps.device == DeviceKind::cpu && caps.isa >= cpu::Isa::avx2;
  return vectors ? quant::Layout::interleaved : quant::Layout::rows;
}

quant::Layout linear_cpu_layout() { return linear_layout({DeviceKind::cpu, cpu::detect_isa()}); }

const Op<LinearArgs>& linear_op() {
  static constexpr Op<LinearArgs> kOp{"linear", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
