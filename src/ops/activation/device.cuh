// The activations of a feed-forward block in fp32.
#pragma once

#include "ops/activation/activation.h"

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

}  // namespace llamita::device
