#include "ops/gather/gather.h"

#include <cstring>

#include "ops/cuda.h"
#include "ops/gather/variants.h"

namespace llamita {

namespace {

void check(const GatherArgs& args) {
  LLAMITA_CHECK(args.x.rank() == 2 && args.rows.rank() == 1 && args.out.rank() == 2,
                "gather takes (T, C), (R), (R, C)");
  LLAMITA_CHECK(
      args.x.dtype() == DType::f32 && args.out.dtype() == DType::f32 && args.rows.dtype() == DType::i32,
      "gather takes f32 rows and i32 indexes");
  LLAMITA_CHECK(args.out.dim(0) == args.rows.dim(0) && args.out.dim(1) == args.x.dim(1), "gather: out is ",
                args.out.shape_text(), " for ", args.rows.dim(0), " rows of ", args.x.shape_text());
}

Cost cost(const GatherArgs& args) {
  const auto bytes = static_cast<double>(args.out.bytes());
  return {.bytes_read = bytes, .bytes_written = bytes};
}

void reference(const GatherArgs& args, Context&) {
  const auto* rows = args.rows.ptr<int32_t>();
  const auto bytes = static_cast<size_t>(args.x.dim(1)) * sizeof(float);
  for (int64_t r = 0; r < args.rows.dim(0); ++r) {
    LLAMITA_CHECK(rows[r] >= 0 && rows[r] < args.x.dim(0), "gather: row ", rows[r], " of ", args.x.dim(0));
    std::memcpy(args.out.slice(r, r + 1).data(), args.x.slice(rows[r], rows[r] + 1).data(), bytes);
  }
}

constexpr Variant<GatherArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {"cuda_rows", on_cuda,
     [](const GatherArgs& args, const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     gather_cuda},
#endif
    {"reference", [](const GatherArgs&, const Caps& caps) { return caps.device == DeviceKind::cpu; },
     [](const GatherArgs&, const Caps&) { return 1.0; }, reference},
};

}  // namespace

const Op<GatherArgs>& gather_op() {
  static constexpr Op<GatherArgs> op{"gather", check, cost, kVariants};
  return op;
}

}  // namespace llamita
