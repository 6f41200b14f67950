// The three matrices of a Gemm as Tensors, for tensor maps.
#pragma once

#include "lessons/gemm.h"
#include "tensor/tensor.h"

namespace llamita::lessons {

struct GemmTensors {
  Tensor a;  // (M, K)
  Tensor b;  // (N, K)
  Tensor c;  // (M, N)
};

inline GemmTensors tensors_of(const Gemm& p) {
  const Device device{DeviceKind::cuda, 0};
  return {Tensor(const_cast<__nv_bfloat16*>(p.a), DType::bf16, {p.m, p.k}, device),
          Tensor(const_cast<__nv_bfloat16*>(p.b), DType::bf16, {p.n, p.k}, device),
          Tensor(p.c, DType::bf16, {p.m, p.n}, device)};
}

}  // namespace llamita::lessons
