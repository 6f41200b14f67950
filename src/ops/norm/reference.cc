// Rows over the threads; what a row gives depends on nothing else. Sums have kLanes partial sums in double,
// because one would wait four cycles for each element; compilers make vectors of them on any instruction set,
// with the same bits. A row of C elements costs two passes over data that is in L1 after the first.
#include <cmath>

#include "ops/cpu.h"
#include "ops/norm/row.h"
#include "ops/norm/variants.h"

namespace llamita {

namespace {

constexpr int kLanes = 8;

// The sum of term(c) for c in [0, C).
template <class Term>
double sum_of(int64_t C, const Term& term) {
  double lanes[kLanes] = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(c + lane);
  }
  for (int lane = 0; c < C; ++c, ++lane) lanes[lane] += term(c);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

void rms_row(const float* x, const float* weight, const float* bias, float eps, int64_t C, float* out) {
  const double squares = sum_of(C, [&](int64_t c) { return static_cast<double>(x[c]) * x[c]; });
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(C) + eps);
  for (int64_t c = 0; c < C; ++c) {
    const double value = x[c] * inverse * weight[c];
    out[c] = static_cast<float>(bias == nullptr ? value : value + bias[c]);
  }
}

void layer_row(const float* x, const float* weight, const float* bias, float eps, int64_t C, float* out) {
  const double mean = sum_of(C, [&](int64_t c) { return x[c]; }) / static_cast<double>(C);
  const double squares = sum_of(C, [&](int64_t c) { return (x[c] - mean) * (x[c] - mean); });
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(C) + eps);
  for (int64_t c = 0; c < C; ++c) {
    const double value = (x[c] - mean) * inverse * weight[c];
    out[c] = static_cast<float>(bias == nullptr ? value : value + bias[c]);
  }
}

}  // namespace

void norm_row(NormKind kind, const float* x, const float* weight, const float* bias, float eps, int64_t C,
              float* out) {
  (kind == NormKind::rms ? rms_row : layer_row)(x, weight, bias, eps, C, out);
}

void norm_reference(const NormArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), C = args.x.dim(1);
  const float* x = args.x.ptr<float>();
  const float* weight = args.weight.ptr<float>();
  const float* bias = args.bias.defined() ? args.bias.ptr<float>() : nullptr;
  float* out = args.out.ptr<float>();
  context.pool().parallel_for(T, grain_for(8 * C), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      norm_row(args.kind, x + t * args.x.stride(0), weight, bias, args.eps, C, out + t * args.out.stride(0));
    }
  });
}

}  // namespace llamita
