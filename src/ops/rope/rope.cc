#include "ops/rope/rope.h"

#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/rope/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check_table(const RopeTableArgs& args) {
  const int64_t T = args.positions.dim(0), pairs = args.inv_freq.dim(0);
  check_shape("rope_table", "positions", args.positions, DType::i32, {{"T", T}});
  check_shape("rope_table", "inv_freq", args.inv_freq, DType::f32, {{"R/2", pairs}});
  check_shape("rope_table", "out", args.out, DType::f32, {{"T", T}, {"R", 2 * pairs}});
}

Cost table_cost(const RopeTableArgs& args) {
  const auto T = static_cast<double>(args.positions.dim(0)),
             pairs = static_cast<double>(args.inv_freq.dim(0));
  return {.bytes_read = 4 * (T + pairs), .bytes_written = 8 * T * pairs, .flops = 40 * T * pairs};
}

void check_rope(const RopeArgs& args) {
  const int64_t T = args.x.dim(0), H = args.x.dim(1), D = args.x.dim(2), R = args.cos_sin.dim(1);
  check_shape("rope", "x", args.x, passing_dtype(args.x), {{"T", T}, {"H", H}, {"D", D}});
  check_shape("rope", "cos_sin", args.cos_sin, DType::f32, {{"T", T}, {"R", R}});
  LLAMITA_CHECK(R % 2 == 0 && R <= D, "rope: R ", R, " must be even and at most D ", D);
}

Cost rope_cost(const RopeArgs& args) {
  const auto T = static_cast<double>(args.x.dim(0)), H = static_cast<double>(args.x.dim(1));
  const auto R = static_cast<double>(args.cos_sin.dim(1));
  return {.bytes_read = 4 * T * R * (H + 1), .bytes_written = 4 * T * R * H, .flops = 3 * T * H * R};
}

constexpr Variant<RopeTableArgs> kTableVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda",
     .supports = on_cuda,
     .estimate_us = [](const RopeTableArgs& args,
                       const Caps& caps) { return cuda_streaming_us(table_cost(args), caps); },
     .run = rope_table_cuda},
#endif
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const RopeTableArgs& args,
                       const Caps&) { return 2e-2 * static_cast<double>(args.out.elems()); },
     .run = rope_table_reference},
};

constexpr Variant<RopeArgs> kRopeVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda",
     .supports = on_cuda,
     .estimate_us = [](const RopeArgs& args,
                       const Caps& caps) { return cuda_streaming_us(rope_cost(args), caps); },
     .run = rope_cuda},
#endif
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const RopeArgs& args,
                       const Caps&) { return 1e-3 * static_cast<double>(args.x.elems()); },
     .run = rope_reference},
};

}  // namespace

const Op<RopeTableArgs>& rope_table_op() {
  static constexpr Op<RopeTableArgs> kOp{"rope_table", check_table, table_cost, kTableVariants};
  return kOp;
}

const Op<RopeArgs>& rope_op() {
  static constexpr Op<RopeArgs> kOp{"rope", check_rope, rope_cost, kRopeVariants};
  return kOp;
}

}  // namespace llamita
