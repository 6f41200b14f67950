// Activations as x times a sigmoid: one formula for all that the Hopper products fold in, so that an epilogue
// has neither branches nor code for what is not asked.
#pragma once

#include "ops/activation/activation.h"

namespace llamita {

// act(x) = x / (1 + 2^-(x (linear + cubic s + quintic s^2))), s = min(x^2, kSigmoidLargestSquare), beyond
// which 2^ is 0 or overwhelms 1.
struct SigmoidForm {
  float linear, cubic, quintic;
};
inline constexpr float kSigmoidLargestSquare = 64;

// All 0 for an activation that has no such form. gelu's is a fit, within 2.6e-5 of it everywhere.
constexpr SigmoidForm sigmoid_form(Activation activation) {
  constexpr float kLog2e = 1.4426950408889634f;
  constexpr float kTanh = 1.59576912f;  // 2 sqrt(2 / pi)
  switch (activation) {
    case Activation::silu: return {kLog2e, 0, 0};
    case Activation::quick_gelu: return {kLog2e * 1.702f, 0, 0};
    case Activation::gelu_tanh: return {kLog2e * kTanh, kLog2e * (kTanh * 0.044715f), 0};
    // Of log(Phi(x) / Phi(-x)), least in the largest error of gelu.
    case Activation::gelu: return {kLog2e * 1.59501577f, kLog2e * 0.0740112927f, kLog2e * -7.03033674e-4f};
    case Activation::relu: break;
  }
  return {0, 0, 0};
}

}  // namespace llamita
