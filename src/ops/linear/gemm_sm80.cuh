// What linear's portable GEMM takes: one dense matrix of 16-bit weights.
#pragma once

#include "ops/context.h"

namespace llamita {

// out(M, N) = a(M, K) b(N, K)^T + bias + residual. a and b of one 16-bit type, rows at multiples of 16 bytes,
// K a multiple of 8.
struct GemmSm80 {
  const void* a;
  const void* b;
  DType element;
  int M, N, K;
  int64_t a_stride, b_stride;  // elements
  const float* bias;           // (N) or nullptr
  const void* residual;        // (M, N) or nullptr
  void* out;                   // (M, N)
  int64_t residual_stride, out_stride;
  DType residual_dtype, out_dtype;
};

void gemm_sm80(const GemmSm80& gemm, Context& context);

// Microseconds, for estimates.
double gemm_sm80_us(int64_t M, int64_t N, int64_t K, const Caps& caps);

// x (rows, columns) of any float type to 16-bit rows `out_stride` apart.
void convert_rows(const Tensor& x, void* out, DType element, int64_t out_stride, Context& context);

}  // namespace llamita
