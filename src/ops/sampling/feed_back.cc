#include "ops/sampling/feed_back.h"

#include <algorithm>

#include "ops/cuda.h"
#include "ops/sampling/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const FeedBackArgs& args) {
  const int64_t R = args.chosen.dim(0), T = args.token_ids.dim(0);
  check_shape("feed_back", "chosen", args.chosen, DType::i32, {{"R", R}});
  check_shape("feed_back", "source", args.source, DType::i32, {{"T", T}});
  check_shape("feed_back", "token_ids", args.token_ids, DType::i32, {{"T", T}});
}

Cost cost(const FeedBackArgs& args) {
  const auto bytes = static_cast<double>(args.token_ids.bytes());
  return {.bytes_read = 2 * bytes, .bytes_written = bytes};
}

void reference(const FeedBackArgs& args, Context&) {
  const int32_t* source = args.source.ptr<int32_t>();
  for (int64_t t = 0; t < args.token_ids.dim(0); ++t) {
    if (source[t] < 0) continue;
    LLAMITA_CHECK(source[t] < args.chosen.dim(0), "feed_back: row ", source[t], " of ", args.chosen.dim(0));
    args.token_ids.ptr<int32_t>()[t] = std::max(args.chosen.ptr<int32_t>()[source[t]], 0);
  }
}

constexpr Variant<FeedBackArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {"cuda", on_cuda,
     [](const FeedBackArgs& args, const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     feed_back_cuda},
#endif
    {"reference", [](const FeedBackArgs&, const Caps& caps) { return caps.device == DeviceKind::cpu; },
     [](const FeedBackArgs&, const Caps&) { return 1.0; }, reference},
};

}  // namespace

const Op<FeedBackArgs>& feed_back_op() {
  static constexpr Op<FeedBackArgs> op{"feed_back", check, cost, kVariants};
  return op;
}

}  // namespace llamita
