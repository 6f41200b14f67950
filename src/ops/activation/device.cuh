// The activations of a feed-forward block in fp32.
#pragma once

#include "hw/cuda/device/ptx/math.cuh"
#include "ops/activation/sigmoid_form.h"

namespace llamita::device {

__device__ __forceinline__ float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::silu: return x / (1 + expf(-x));
    case Activation::gelu: return 0.5f * x * erfcf(-x * 0.70710678f);
    case Activation::gelu_tanh:  // 0.5 x (1 + tanh(u)) without the cancellation at negative u
      return x / (1 + expf(-1.59576912f * (x + 0.044715f * x * x * x)));
    case Activation::quick_gelu: return x / (1 + expf(-1.702f * x));
    case Activation::relu: return fmaxf(x, 0.0f);
  }
  return 0;
}

// Of a form without a quintic term, as gated epilogues take.
__device__ __forceinline__ float activate_gate(const SigmoidForm& form, float x) {
  return __fdividef(x, 1 + ptx::exp2_approx(-x * (form.linear + form.cubic * x * x)));
}

// Of any form.
__device__ __forceinline__ float activate(const SigmoidForm& form, float x) {
  const float square = fminf(x * x, kSigmoidLargestSquare);
  const float factor = form.linear + square * (form.cubic + square * form.quintic);
  return __fdividef(x, 1 + ptx::exp2_approx(-x * factor));
}

}  // namespace llamita::device
