#include "ops/kv_write/kv_write.h"

#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/kv_write/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const KvWriteArgs& args) {
  const int64_t T = args.k.dim(0), Hkv = args.k.dim(1), D = args.k.dim(2), pages = args.k_cache.dim(0);
  check_shape("kv_write", "k", args.k, passing_dtype(args.k), {{"T", T}, {"Hkv", Hkv}, {"D", D}});
  check_shape("kv_write", "v", args.v, args.k.dtype(), {{"T", T}, {"Hkv", Hkv}, {"D", D}});
  check_shape("kv_write", "kv_slot", args.kv_slot, DType::i64, {{"T", T}});
  for (const Tensor& cache : {args.k_cache, args.v_cache}) {
    check_kv_side("kv_write", cache, args.k_cache.dtype(), pages, Hkv, D);
  }
}

Cost cost(const KvWriteArgs& args) {
  const int64_t rows = 2 * args.k.dim(0) * args.k.dim(1), D = args.k.dim(2);
  const KvFormat format{args.k_cache.dtype()};
  return {.bytes_read = static_cast<double>(rows * D * info(args.k.dtype()).block_bytes),
          .bytes_written = static_cast<double>(rows * format.row_bytes(D)),
          .flops = 0};
}

constexpr Variant<KvWriteArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda",
     .supports = on_cuda,
     .estimate_us = [](const KvWriteArgs& args,
                       const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     .run = kv_write_cuda},
#endif
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const KvWriteArgs& args,
                       const Caps&) { return 2e-3 * static_cast<double>(args.k.elems()); },
     .run = kv_write_reference},
};

}  // namespace

const Op<KvWriteArgs>& kv_write_op() {
  static constexpr Op<KvWriteArgs> kOp{"kv_write", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
