#include "ops/activation/activation.h"

#include "ops/activation/variants.h"
#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const ActivationArgs& args) {
  const int64_t T = args.gate.dim(0), F = args.gate.dim(1);
  check_shape("activation", "gate", args.gate, passing_dtype(args.gate), {{"T", T}, {"F", F}});
  check_optional_shape("activation", "up", args.up, args.gate.dtype(), {{"T", T}, {"F", F}});
  check_shape("activation", "out", args.out, passing_dtype(args.out), {{"T", T}, {"F", F}});
}

Cost cost(const ActivationArgs& args) {
  const auto elems = static_cast<double>(args.gate.elems());
  const bool gated = args.up.defined();
  return {.bytes_read = info(args.gate.dtype()).block_bytes * elems * (gated ? 2 : 1),
          .bytes_written = info(args.out.dtype()).block_bytes * elems,
          .flops = elems * (gated ? 9 : 8)};
}

template <cpu::Isa isa>
bool has_kernel(const ActivationArgs& args, const Caps& caps) {
  return on_cpu(args, caps) && caps.isa >= isa && args.kind != Activation::gelu;
}

// Nanoseconds an element; only comparisons matter.
template <cpu::Isa isa>
double vector_us(const ActivationArgs& args, const Caps&) {
  return (isa == cpu::Isa::avx512 ? 4e-4 : 6e-4) * static_cast<double>(args.gate.elems());
}

constexpr Variant<ActivationArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda",
     .supports = on_cuda,
     .estimate_us = [](const ActivationArgs& args,
                       const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     .run = activation_cuda},
#endif
    {.name = "cpu_avx512",
     .supports = has_kernel<cpu::Isa::avx512>,
     .estimate_us = vector_us<cpu::Isa::avx512>,
     .run = activation_cpu_avx512},
    {.name = "cpu_avx2",
     .supports = has_kernel<cpu::Isa::avx2>,
     .estimate_us = vector_us<cpu::Isa::avx2>,
     .run = activation_cpu_avx2},
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const ActivationArgs& args,
                       const Caps&) { return 1e-2 * static_cast<double>(args.gate.elems()); },
     .run = activation_reference},
};

}  // namespace

const Op<ActivationArgs>& activation_op() {
  static constexpr Op<ActivationArgs> kOp{"activation", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
