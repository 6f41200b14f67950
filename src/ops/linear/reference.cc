// A weight row is decoded once and multiplied with every token, in double.
#include "ops/linear/variants.h"

namespace llamita {

void linear_reference(const LinearArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), N = args.weight->rows(), K = args.weight->cols;
  const float* bias = args.bias.defined() ? args.bias.ptr<float>() : nullptr;
  const float* residual = args.residual.defined() ? args.residual.ptr<float>() : nullptr;
  const Arena::Scope scope(context.arena());
  float* row = context.arena().take(DType::f32, {K}).ptr<float>();
  for (int64_t n = 0; n < N; ++n) {
    quant::unpack_row(*args.weight, n, row);
    for (int64_t t = 0; t < T; ++t) {
      const float* x = args.x.ptr<float>() + t * args.x.stride(0);
      double sum = 0;
      for (int64_t k = 0; k < K; ++k) sum += static_cast<double>(x[k]) * row[k];
      if (bias != nullptr) sum += bias[n];
      if (residual != nullptr) sum += residual[t * args.residual.stride(0) + n];
      args.out.ptr<float>()[t * args.out.stride(0) + n] = static_cast<float>(sum);
    }
  }
  if (args.prepared.defined()) prepare_norm(args.out, args.next_gain, args.prepared);
}

}  // namespace llamita
