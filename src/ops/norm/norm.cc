#include "ops/norm/norm.h"

#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/norm/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const NormArgs& args) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  check_shape("norm", "x", args.x, DType::f32, {{"T", T}, {"C", C}});
  check_shape("norm", "weight", args.weight, DType::f32, {{"C", C}});
  check_optional_shape("norm", "bias", args.bias, DType::f32, {{"C", C}});
  check_shape("norm", "out", args.out, passing_dtype(args.out), {{"T", T}, {"C", C}});
  LLAMITA_CHECK(C > 0, "norm: C must be positive");
}

Cost cost(const NormArgs& args) {
  const auto elems = static_cast<double>(args.x.elems());
  const auto C = static_cast<double>(args.x.dim(1));
  return {.bytes_read = 4 * (elems + C * (args.bias.defined() ? 2 : 1)),
          .bytes_written = elems * info(args.out.dtype()).block_bytes,
          .flops = (args.kind == NormKind::rms ? 4 : 7) * elems};
}

constexpr Variant<NormArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda_rows",
     .supports = on_cuda,
     .estimate_us = [](const NormArgs& args,
                       const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     .run = norm_cuda_rows},
#endif
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const NormArgs& args,
                       const Caps&) { return 2e-3 * static_cast<double>(args.x.elems()); },
     .run = norm_reference},
};

}  // namespace

const Op<NormArgs>& norm_op() {
  static constexpr Op<NormArgs> kOp{"norm", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
