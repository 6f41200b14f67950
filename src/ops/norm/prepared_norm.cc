#include "ops/norm/prepared_norm.h"

#include <algorithm>
#include <cmath>

#include "ops/shape_check.h"

namespace llamita {

PreparedNorm take_prepared_norm(const Tensor& x, Context& context) {
  const int64_t T = x.dim(0), C = x.dim(1);
  return {context.arena().take(context.caps().activation, {T, C}),
          context.arena().take(DType::f32, {norm_runs(C), T})};
}

PreparedNorm prepared_norm_shape(const Tensor& x, const Caps& caps) {
  const int64_t T = x.dim(0), C = x.dim(1);
  return {Tensor(nullptr, caps.activation, {T, C}, x.device()),
          Tensor(nullptr, DType::f32, {norm_runs(C), T}, x.device())};
}

void check_prepared_norm(std::string_view op, const PreparedNorm& prepared, int64_t T, int64_t C) {
  if (!prepared.defined()) return;
  check_shape(op, "prepared.scaled", prepared.scaled, passing_dtype(prepared.scaled), {{"T", T}, {"C", C}});
  check_shape(op, "prepared.squares", prepared.squares, DType::f32, {{"runs", norm_runs(C)}, {"T", T}});
  LLAMITA_CHECK(prepared.scaled.dense() && prepared.squares.dense(), op, ": a prepared norm is dense");
}

void prepare_norm(const Tensor& x, const Tensor& gain, const PreparedNorm& prepared) {
  const int64_t T = x.dim(0), C = x.dim(1);
  for (int64_t t = 0; t < T; ++t) {
    const float* row = x.ptr<float>() + t * x.stride(0);
    for (int64_t begin = 0; begin < C; begin += kNormRun) {
      double squares = 0;
      for (int64_t c = begin; c < std::min(begin + kNormRun, C); ++c) {
        prepared.scaled.ptr<float>()[t * C + c] = row[c] * gain.ptr<float>()[c];
        squares += static_cast<double>(row[c]) * row[c];
      }
      prepared.squares.ptr<float>()[begin / kNormRun * T + t] = static_cast<float>(squares);
    }
  }
}

void finish_norm(const PreparedNorm& prepared, float eps, const Tensor& out) {
  const int64_t T = out.dim(0), C = out.dim(1);
  for (int64_t t = 0; t < T; ++t) {
    float squares = 0;
    for (int64_t run = 0; run < norm_runs(C); ++run) squares += prepared.squares.ptr<float>()[run * T + t];
    const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(C) + eps);
    for (int64_t c = 0; c < C; ++c)
      out.ptr<float>()[t * out.stride(0) + c] = prepared.scaled.ptr<float>()[t * C + c] * inverse;
  }
}

}  // namespace llamita
