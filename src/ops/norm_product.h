// The region with which attn_in and mlp_in begin on the CPU: a token is normed, and while its row is in L1
// becomes what the projection reads.
#pragma once

#include "ops/linear/product.h"
#include "ops/norm/row.h"

namespace llamita {

// args.x through the norm to `normed` (T, C) dense, which is the product's x, and all its tokens prepared.
template <class FusedArgs>
void norm_and_prepare(const FusedArgs& args, const Tensor& normed, const CpuProduct& product,
                      ThreadPool& pool) {
  constexpr int64_t kNormOperations = 8;  // for an element
  const int64_t C = normed.dim(1);
  const float* x = args.x.template ptr<float>();
  const float* weight = args.norm_weight.template ptr<float>();
  const float* bias = args.norm_bias.defined() ? args.norm_bias.template ptr<float>() : nullptr;
  auto* out = normed.ptr<float>();
  pool.parallel_for(normed.dim(0), product.token_grain(kNormOperations), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      norm_row(args.norm_kind, x + t * args.x.stride(0), weight, bias, args.norm_eps, C, out + t * C);
    }
    product.prepare(begin, end);
  });
}

}  // namespace llamita
