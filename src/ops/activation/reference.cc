// One element at a time, in double, rounded once.
#include <cmath>

#include "ops/activation/row.h"
#include "ops/activation/variants.h"
#include "ops/cpu.h"

namespace llamita {

namespace {

double activate(Activation kind, double x) {
  constexpr double kSqrtHalf = 0.70710678118654752440;
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  switch (kind) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu: return 0.5 * x * std::erfc(-x * kSqrtHalf);
    case Activation::gelu_tanh:  // 0.5 x (1 + tanh(u)) without the cancellation at negative u
      return x / (1 + std::exp(-2 * kSqrtTwoOverPi * (x + 0.044715 * x * x * x)));
    case Activation::quick_gelu: return x / (1 + std::exp(-1.702 * x));
    case Activation::relu: return x > 0 ? x : 0;
  }
  return 0;
}

}  // namespace

void activation_row_reference(Activation kind, const float* gate, const float* up, float* out, int64_t F) {
  for (int64_t f = 0; f < F; ++f) {
    const double value = activate(kind, gate[f]);
    out[f] = static_cast<float>(up == nullptr ? value : value * up[f]);
  }
}

void activation_reference(const ActivationArgs& args, Context& context) {
  const int64_t T = args.gate.dim(0), F = args.gate.dim(1);
  const float* gate = args.gate.ptr<float>();
  const float* up = args.up.defined() ? args.up.ptr<float>() : nullptr;
  float* out = args.out.ptr<float>();
  context.pool().parallel_for(T, grain_for(32 * F), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      activation_row_reference(args.kind, gate + t * args.gate.stride(0),
                               up == nullptr ? nullptr : up + t * args.up.stride(0),
                               out + t * args.out.stride(0), F);
    }
  });
}

}  // namespace llamita
