#include "ops/embedding/embedding.h"

#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/embedding/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const EmbeddingArgs& args) {
  LLAMITA_CHECK(args.table != nullptr, "embedding: no table");
  const int64_t T = args.token_ids.dim(0), C = args.table->cols;
  check_shape("embedding", "token_ids", args.token_ids, DType::i32, {{"T", T}});
  if (args.input_rows.defined()) {
    check_shape("embedding", "input_rows", args.input_rows, DType::f32,
                {{"n", args.input_rows.dim(0)}, {"C", C}});
  }
  check_optional_shape("embedding", "positions", args.positions, DType::i32, {{"T", T}});
  LLAMITA_CHECK(args.positions.defined() == (args.position_table != nullptr),
                "embedding: positions and position_table belong together");
  LLAMITA_CHECK(args.chosen.defined() == args.token_source.defined(),
                "embedding: chosen and token_source belong together");
  if (args.chosen.defined()) {
    check_shape("embedding", "chosen", args.chosen, DType::i32, {{"R", args.chosen.dim(0)}});
    check_shape("embedding", "token_source", args.token_source, DType::i32, {{"T", T}});
  }
  if (args.position_table != nullptr) {
    LLAMITA_CHECK(args.position_table->cols == C, "embedding: position_table (P, C) must have C ", C,
                  ", got ", args.position_table->cols);
  }
  check_shape("embedding", "out", args.out, DType::f32, {{"T", T}, {"C", C}});
}

Cost cost(const EmbeddingArgs& args) {
  const auto T = static_cast<double>(args.token_ids.dim(0)), C = static_cast<double>(args.table->cols);
  const auto rows = static_cast<double>(std::max<int64_t>(args.table->rows(), 1));
  Cost sum{.bytes_read = T * (4 + static_cast<double>(args.table->bytes()) / rows),
           .bytes_written = 4 * T * C};
  if (args.position_table != nullptr) {
    const auto positions = static_cast<double>(std::max<int64_t>(args.position_table->rows(), 1));
    sum.bytes_read += T * (4 + static_cast<double>(args.position_table->bytes()) / positions);
    sum.flops = T * C;
  }
  return sum;
}

constexpr Variant<EmbeddingArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "cuda_rows",
     .supports = [](const EmbeddingArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && embedding_cuda_supports(args); },
     .estimate_us = [](const EmbeddingArgs& args,
                       const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     .run = embedding_cuda},
#endif
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const EmbeddingArgs& args,
                       const Caps&) { return 2e-3 * static_cast<double>(args.out.elems()); },
     .run = embedding_reference,
     .scratch_bytes = [](const EmbeddingArgs& args, const Caps&) -> int64_t {
       return args.position_table == nullptr ? 0 : 4 * args.table->cols;  // one position's row
     }},
};

}  // namespace

const Op<EmbeddingArgs>& embedding_op() {
  static constexpr Op<EmbeddingArgs> kOp{"embedding", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
