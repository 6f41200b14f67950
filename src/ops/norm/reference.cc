// Rows over the threads; in a row one double sum over ascending elements, so that what a row gives depends on
// nothing else. A row of C elements costs two passes over data that is in L1 after the first.
#include <cmath>

#include "ops/cpu.h"
#include "ops/norm/variants.h"

namespace llamita {

namespace {

void rms_row(const float* x, const NormArgs& args, int64_t C, float* out) {
  const float* weight = args.weight.ptr<float>();
  const float* bias = args.bias.defined() ? args.bias.ptr<float>() : nullptr;
  double squares = 0;
  for (int64_t c = 0; c < C; ++c) squares += static_cast<double>(x[c]) * x[c];
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(C) + args.eps);
  for (int64_t c = 0; c < C; ++c) {
    const double value = x[c] * inverse * weight[c];
    out[c] = static_cast<float>(bias == nullptr ? value : value + bias[c]);
  }
}

void layer_row(const float* x, const NormArgs& args, int64_t C, float* out) {
  const float* weight = args.weight.ptr<float>();
  const float* bias = args.bias.defined() ? args.bias.ptr<float>() : nullptr;
  double sum = 0;
  for (int64_t c = 0; c < C; ++c) sum += x[c];
  const double mean = sum / static_cast<double>(C);
  double squares = 0;
  for (int64_t c = 0; c < C; ++c) squares += (x[c] - mean) * (x[c] - mean);
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(C) + args.eps);
  for (int64_t c = 0; c < C; ++c) {
    const double value = (x[c] - mean) * inverse * weight[c];
    out[c] = static_cast<float>(bias == nullptr ? value : value + bias[c]);
  }
}

}  // namespace

void norm_reference(const NormArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  const float* x = args.x.ptr<float>();
  float* out = args.out.ptr<float>();
  const auto row = args.kind == NormKind::rms ? rms_row : layer_row;
  context.pool().parallel_for(T, grain_for(8 * C), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      row(x + t * args.x.stride(0), args, C, out + t * args.out.stride(0));
  });
}

}  // namespace llamita
