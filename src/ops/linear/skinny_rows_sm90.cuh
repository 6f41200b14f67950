// The skinny product with the epilogues of linear and mlp_in.
#pragma once

#include "ops/activation/device.cuh"
#include "ops/linear/skinny_sm90.cuh"

namespace llamita::skinny_sm90_detail {

// Eight lanes write eight neighbouring outputs of a token. Gated: pairs are gate and up of an output.
template <bool kGated>
struct RowsEpilogue {
  static constexpr bool kPairs = kGated;
  static constexpr int kBatch = kGated ? 2 : 4;
  static constexpr int kTileRows = kGated ? kRows / 2 : kRows;

  struct Extra {
    float add, add_up;
  };

  const float* bias;
  const float* bias_up;
  const void* residual;
  void* out;
  int64_t residual_stride, out_stride;
  int tokens, rows;
  DType out_dtype;
  Activation activation;

  __device__ __forceinline__ Extra load(int tile, int row, int token) const {
    row += tile * kTileRows;
    Extra extra{0, 0};
    if (row >= rows || token >= tokens) return extra;
    if (bias != nullptr) extra.add = bias[row];
    if (kGated && bias_up != nullptr) extra.add_up = bias_up[row];
    if (!kGated && residual != nullptr)
      extra.add_up = device::load_float(residual, out_dtype, token * residual_stride + row);
    return extra;
  }

  __device__ __forceinline__ void put(int tile, int row, int token, float value, float up,
                                      const Extra& extra) const {
    row += tile * kTileRows;
    if (row >= rows || token >= tokens) return;
    value += extra.add;
    if constexpr (kGated)
      value = device::activate(activation, value) * (up + extra.add_up);
    else
      value += extra.add_up;  // the residual
    device::store_float(out, out_dtype, token * out_stride + row, value);
  }
};

template <class Element, int kTokens, bool kGated>
void launch_rows(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  using Epilogue = RowsEpilogue<kGated>;
  const Epilogue epilogue{.bias = g.bias,
                          .bias_up = g.bias_up,
                          .residual = g.residual,
                          .out = g.out,
                          .residual_stride = g.residual_stride,
                          .out_stride = g.out_stride,
                          .tokens = g.M,
                          .rows = g.N,
                          .out_dtype = g.out_dtype,
                          .activation = g.activation};
  launch<Config<Element, kTokens, Epilogue>>(
      {g.x, g.w, kGated ? g.w_up : g.w, g.element, g.M, g.N, g.K, g.x_stride, plan.tiles},
      Layout{.box_rows = Epilogue::kTileRows}, epilogue, plan, context);
}

template <class Element>
void run(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  with_tokens(plan, [&]<int kTokens>() {
    if (g.w_up != nullptr)
      launch_rows<Element, kTokens, true>(g, plan, context);
    else
      launch_rows<Element, kTokens, false>(g, plan, context);
  });
}

}  // namespace llamita::skinny_sm90_detail
