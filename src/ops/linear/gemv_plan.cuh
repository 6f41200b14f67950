// What linear does around the product of gemv.cuh: where rows lie, and the epilogue with bias and residual.
#pragma once

#include "ops/linear/gemv.cuh"
#include "ops/linear/linear.h"

namespace llamita {
namespace device {

struct LinearPlan {
  GemvWeight weight;
  const float* bias;     // or nullptr
  const void* residual;  // or nullptr
  void* out;
  int64_t residual_stride, out_stride;
  DType residual_dtype, out_dtype;
  int tokens;

  // A tile lies in one part, so that it has one format.
  struct Place {
    int part, row;
  };
  __device__ __forceinline__ Place locate(int tile) const {
    int part = 0;
    while (part + 1 < weight.count) {
      const int tiles = (weight.parts[part].rows + kGemvRows - 1) / kGemvRows;
      if (tile < tiles) break;
      tile -= tiles;
      ++part;
    }
    return {part, tile * kGemvRows};
  }

  __device__ __forceinline__ GemvRows rows(int tile, int g) const {
    const Place at = locate(tile);
    const GemvPart& part = weight.parts[at.part];
    const int low = at.row + g, high = low + 8;
    return {low < part.rows ? part.data + low * part.row_bytes : nullptr,
            high < part.rows ? part.data + high * part.row_bytes : nullptr, part.format};
  }

  __device__ __forceinline__ void put(int row, int token, float value) const {
    if (token >= tokens) return;
    if (bias != nullptr) value += bias[row];
    if (residual != nullptr) value += load_float(residual, residual_dtype, token * residual_stride + row);
    store_float(out, out_dtype, token * out_stride + row, value);
  }

  __device__ __forceinline__ void store(int tile, int g, int token, const float (&d)[4]) const {
    const Place at = locate(tile);
    const GemvPart& part = weight.parts[at.part];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = at.row + g + 8 * half;
      if (row >= part.rows) continue;
      put(part.first_row + row, token, d[2 * half]);
      put(part.first_row + row, token + 1, d[2 * half + 1]);
    }
  }
};

}  // namespace device

inline device::LinearPlan linear_plan(const LinearArgs& args) {
  const bool residual = args.residual.defined();
  return {.weight = gemv_weight(*args.weight),
          .bias = data_or_null<float>(args.bias),
          .residual = data_or_null<void>(args.residual),
          .out = args.out.data(),
          .residual_stride = residual ? args.residual.stride(0) : 0,
          .out_stride = args.out.stride(0),
          .residual_dtype = residual ? args.residual.dtype() : DType::f32,
          .out_dtype = args.out.dtype(),
          .tokens = static_cast<int>(args.x.dim(0))};
}

}  // namespace llamita
