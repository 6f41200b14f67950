// activation as a template over the vector struct S: the sigmoid family x / (1 + e^-a) with the vector exp
// (1.5e-7 relative), and relu. The exact gelu needs erf and stays with the reference.
#pragma once

#include "hw/cpu/simd_math.h"
#include "ops/activation/kernels.h"

namespace llamita {

// What stands in the exponent: a for x / (1 + e^-a).
template <class S, ActivationKernel kKind>
[[gnu::always_inline]] static inline typename S::F activate(typename S::F x) {
  using F = typename S::F;
  if constexpr (kKind == ActivationKernel::relu) return S::max(S::zero(), x);
  F minus_a;
  if constexpr (kKind == ActivationKernel::silu) minus_a = S::mul(x, S::set(-1.0f));
  if constexpr (kKind == ActivationKernel::quick_gelu) minus_a = S::mul(x, S::set(-1.702f));
  if constexpr (kKind == ActivationKernel::gelu_tanh) {  // 2 sqrt(2 / pi) (x + 0.044715 x^3)
    const F cubic = S::fma(S::mul(x, x), S::set(-0.0713548163f), S::set(-1.59576912f));
    minus_a = S::mul(x, cubic);
  }
  return S::div(x, S::add(S::set(1.0f), cpu::exp<S>(minus_a)));
}

template <class S, ActivationKernel kKind>
static void activation_row(const float* gate, const float* up, float* out, int64_t F) {
  const auto step = [&](const float* g, const float* u, float* o) {
    const auto value = activate<S, kKind>(S::load(g));
    S::store(o, u == nullptr ? value : S::mul(value, S::load(u)));
  };
  int64_t f = 0;
  for (; f + S::kLanes <= F; f += S::kLanes) step(gate + f, up == nullptr ? nullptr : up + f, out + f);
  if (f == F) return;
  float g[S::kLanes] = {}, u[S::kLanes] = {};
  for (int64_t i = f; i < F; ++i) {
    g[i - f] = gate[i];
    if (up != nullptr) u[i - f] = up[i];
  }
  step(g, up == nullptr ? nullptr : u, g);
  for (int64_t i = f; i < F; ++i) out[i] = g[i - f];
}

template <class S>
static void activation_row(ActivationKernel kind, const float* gate, const float* up, float* out, int64_t F) {
  switch (kind) {
    case ActivationKernel::silu: return activation_row<S, ActivationKernel::silu>(gate, up, out, F);
    case ActivationKernel::gelu_tanh: return activation_row<S, ActivationKernel::gelu_tanh>(gate, up, out, F);
    case ActivationKernel::quick_gelu:
      return activation_row<S, ActivationKernel::quick_gelu>(gate, up, out, F);
    case ActivationKernel::relu: return activation_row<S, ActivationKernel::relu>(gate, up, out, F);
  }
}

}  // namespace llamita
