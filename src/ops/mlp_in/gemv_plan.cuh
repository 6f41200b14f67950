// What mlp_in does around the product of linear/gemv.cuh: where rows lie, and the epilogue with bias and
// activation. Gated: a gate row and the up row that belongs to it end in one thread.
#pragma once

#include "ops/activation/device.cuh"
#include "ops/linear/gemv.cuh"
#include "ops/mlp_in/mlp_in.h"

namespace llamita {
namespace device {

struct MlpInPlan {
  GemvWeight weight;
  const float* bias;  // or nullptr
  void* out;
  int64_t out_stride;
  int tokens, F;
  DType out_dtype;
  Activation activation;
  bool gated;

  __device__ __forceinline__ GemvRows rows(int tile, int g) const {
    GemvRows rows{nullptr, nullptr, weight.parts[0].format};
    const int low = gated ? 8 * tile + g : 16 * tile + g, high = gated ? F + low : low + 8;
    if (low < F) rows.low = weight.row(low, rows.format);
    if (low < F && high < (gated ? 2 * F : F)) rows.high = weight.row(high, rows.format);
    return rows;
  }

  __device__ __forceinline__ void put(int f, int token, float value) const {
    store_float(out, out_dtype, token * out_stride + f, value);
  }

  // The sums of two rows: gate and up of f, or features f and f2 (which may lie beyond F).
  __device__ __forceinline__ void fold(int f, int f2, int token, float first, float second) const {
    if (bias != nullptr) {
      first += bias[f];
      if (gated || f2 < F) second += bias[gated ? F + f : f2];
    }
    if (gated) {
      put(f, token, activate(activation, first) * second);
    } else {
      put(f, token, activate(activation, first));
      if (f2 < F) put(f2, token, activate(activation, second));
    }
  }

  __device__ __forceinline__ void store(int tile, int g, int token, const float (&d)[4]) const {
    const int low = gated ? 8 * tile + g : 16 * tile + g;
    if (low >= F) return;
    if (token < tokens) fold(low, low + 8, token, d[0], d[2]);
    if (token + 1 < tokens) fold(low, low + 8, token + 1, d[1], d[3]);
  }
};

}  // namespace device

inline device::MlpInPlan mlp_in_plan(const MlpInArgs& args) {
  return {.weight = gemv_weight(*args.in),
          .bias = data_or_null<float>(args.bias),
          .out = args.out.data(),
          .out_stride = args.out.stride(0),
          .tokens = static_cast<int>(args.x.dim(0)),
          .F = static_cast<int>(args.out.dim(1)),
          .out_dtype = args.out.dtype(),
          .activation = args.activation,
          .gated = args.gated};
}

}  // namespace llamita
