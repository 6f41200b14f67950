#include "ops/patch_embed/patch_embed.h"

#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/patch_embed/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const PatchEmbedArgs& args) {
  const int64_t n = args.pixels.dim(0), S = args.pixels.dim(3), C = args.class_row.dim(0);
  check_shape("patch_embed", "pixels", args.pixels, DType::f32, {{"n", n}, {"3", 3}, {"S", S}, {"S", S}});
  LLAMITA_CHECK(args.patch > 0 && S % args.patch == 0, "patch_embed: S ", S, " is no multiple of ",
                args.patch);
  const int64_t side = S / args.patch, rows = 1 + side * side, K = args.patches.dim(1);
  check_shape("patch_embed", "class_row", args.class_row, DType::f32, {{"C", C}});
  check_shape("patch_embed", "positions", args.positions, DType::f32, {{"1+P", rows}, {"C", C}});
  check_shape("patch_embed", "patches", args.patches, passing_dtype(args.patches),
              {{"n(1+P)", n * rows}, {"K", K}});
  LLAMITA_CHECK(K >= 3 * args.patch * args.patch, "patch_embed: K ", K, " for patches of ", args.patch);
  check_shape("patch_embed", "x", args.x, DType::f32, {{"n(1+P)", n * rows}, {"C", C}});
}

Cost cost(const PatchEmbedArgs& args) {
  return {.bytes_read = static_cast<double>(args.pixels.bytes() + args.positions.bytes()),
          .bytes_written = static_cast<double>(args.patches.bytes() + args.x.bytes()),
          .flops = 0};
}

constexpr Variant<PatchEmbedArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda_rows",
     .supports = on_cuda,
     .estimate_us = [](const PatchEmbedArgs& args,
                       const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     .run = patch_embed_cuda},
#endif
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const PatchEmbedArgs& args,
                       const Caps&) { return 1e-3 * static_cast<double>(args.x.elems()); },
     .run = patch_embed_reference},
};

}  // namespace

const Op<PatchEmbedArgs>& patch_embed_op() {
  static constexpr Op<PatchEmbedArgs> kOp{"patch_embed", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
