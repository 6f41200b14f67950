// Shape checks of op arguments, whose failures name the axes: "linear: x must be F32 (T 3, K 64), got …".
#pragma once

#include <initializer_list>
#include <string_view>

#include "tensor/tensor.h"

namespace llamita {

struct Axis {
  std::string_view name;
  int64_t size;
};

// `tensor` has this dtype and these axes; every axis but the first is dense, the first may be strided.
void check_shape(std::string_view op, std::string_view tensor_name, const Tensor& tensor, DType dtype,
                 std::initializer_list<Axis> axes);

// The same for a tensor that may be undefined.
void check_optional_shape(std::string_view op, std::string_view tensor_name, const Tensor& tensor,
                          DType dtype, std::initializer_list<Axis> axes);

// `side` holds keys or values as quant/kv_format.h lays them out: (pages, Hkv, kPageTokens, D) of `dtype`.
void check_kv_side(std::string_view op, const Tensor& side, DType dtype, int64_t pages, int64_t Hkv,
                   int64_t D);

// The dtype to ask for where a tensor passes from op to op: on a GPU what it has, if that is f32, bf16 or f16
// (a tensor without memory counts as such), else f32.
DType passing_dtype(const Tensor& tensor);

}  // namespace llamita
