// A thread a token.
#include "ops/cuda/launch.cuh"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 256;

struct FeedBackParams {
  const int32_t* chosen;
  const int32_t* source;
  int32_t* token_ids;
  int rows, tokens;
};

__global__ void __launch_bounds__(kThreads) feed_back_tokens(const FeedBackParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (t >= p.tokens) return;
  const int row = p.source[t];
  // A row out of range is a mistake of the caller's that must not read what is not ours.
  if (row >= 0) p.token_ids[t] = max(p.chosen[min(row, p.rows - 1)], 0);
}

}  // namespace

void feed_back_cuda(const FeedBackArgs& args, Context& context) {
  const int64_t T = args.token_ids.dim(0);
  const FeedBackParams params{.chosen = args.chosen.ptr<int32_t>(),
                              .source = args.source.ptr<int32_t>(),
                              .token_ids = args.token_ids.ptr<int32_t>(),
                              .rows = static_cast<int>(args.chosen.dim(0)),
                              .tokens = static_cast<int>(T)};
  launch(context, feed_back_tokens, dim3(ceil_div(T, kThreads)), kThreads, 0, params);
}

}  // namespace llamita
