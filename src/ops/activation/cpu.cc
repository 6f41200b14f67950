// From the arguments of activation to the per-ISA kernels, rows over the threads.
#include "ops/cpu.h"

#include "ops/activation/kernels.h"
#include "ops/activation/row.h"
#include "ops/activation/variants.h"

namespace llamita {

namespace {

using Kernel = void (*)(ActivationKernel, const float* gate, const float* up, float* out, int64_t F);

ActivationKernel kernel_of(Activation kind) {
  switch (kind) {
    case Activation::silu: return ActivationKernel::silu;
    case Activation::gelu_tanh: return ActivationKernel::gelu_tanh;
    case Activation::quick_gelu: return ActivationKernel::quick_gelu;
    case Activation::relu: return ActivationKernel::relu;
    case Activation::gelu: break;
  }
  LLAMITA_CHECK(false, "activation: no vector kernel");
  return {};
}

void run_rows(const ActivationArgs& args, Context& context, Kernel kernel) {
  const ActivationKernel kind = kernel_of(args.kind);
  const int64_t T = args.gate.dim(0), F = args.gate.dim(1);
  const float* gate = args.gate.ptr<float>();
  const float* up = args.up.defined() ? args.up.ptr<float>() : nullptr;
  float* out = args.out.ptr<float>();
  context.pool().parallel_for(T, grain_for(4 * F), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      kernel(kind, gate + t * args.gate.stride(0), up == nullptr ? nullptr : up + t * args.up.stride(0),
             out + t * args.out.stride(0), F);
    }
  });
}

}  // namespace

void activation_row(Activation kind, cpu::Isa isa, const float* gate, const float* up, float* out,
                    int64_t F) {
  if (isa == cpu::Isa::generic || kind == Activation::gelu)
    return activation_row_reference(kind, gate, up, out, F);
  const Kernel kernel = isa >= cpu::Isa::avx512 ? activation_row_avx512 : activation_row_avx2;
  kernel(kernel_of(kind), gate, up, out, F);
}

void activation_cpu_avx2(const ActivationArgs& args, Context& context) {
  run_rows(args, context, activation_row_avx2);
}
void activation_cpu_avx512(const ActivationArgs& args, Context& context) {
  run_rows(args, context, activation_row_avx512);
}

}  // namespace llamita
