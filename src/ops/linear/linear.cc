#include "ops/linear/linear.h"

#include "ops/cpu.h"
#include "ops/linear/variants.h"
#include "ops/shape_check.h"
#include "quant/unpack.h"

namespace llamita {

namespace {

void check(const LinearArgs& args) {
  LLAMITA_CHECK(args.weight != nullptr, "linear: no weight");
  const quant::Weight& weight = *args.weight;
  const int64_t T = args.x.dim(0), N = weight.rows(), K = weight.cols;
  check_shape("linear", "x", args.x, DType::f32, {{"T", T}, {"K", K}});
  check_optional_shape("linear", "bias", args.bias, DType::f32, {{"N", N}});
  check_optional_shape("linear", "residual", args.residual, DType::f32, {{"T", T}, {"N", N}});
  check_shape("linear", "out", args.out, DType::f32, {{"T", T}, {"N", N}});
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
  double read = static_cast<double>(args.weight->bytes()) + 4 * static_cast<double>(args.x.elems());
  if (args.bias.defined()) read += 4 * N;
  if (args.residual.defined()) read += 4 * outputs;
  return {.bytes_read = read, .bytes_written = 4 * outputs, .flops = 2 * multiplications(args)};
}

constexpr Variant<LinearArgs> kVariants[] = {
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const LinearArgs& args, const Caps&) { return 2e-3 * multiplications(args); },
     .run = linear_reference,
     .scratch_bytes = [](const LinearArgs& args, const Caps&) { return 4 * args.weight->cols; }},
};

}  // namespace

const Op<LinearArgs>& linear_op() {
  static constexpr Op<LinearArgs> kOp{"linear", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
