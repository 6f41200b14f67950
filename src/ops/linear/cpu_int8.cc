// From the arguments of linear to the integer kernels: the activations are rounded once, then every part in a
// block format is multiplied in integers and every part of a plain type in f32.
#include "ops/linear/int8.h"
#include "ops/linear/parts.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

struct Kernels {
  void (*round_row)(const float* x, int64_t K, int64_t t, const Int8Rows& to);
  void (*multiply)(const Int8Job& job, int64_t begin, int64_t end);
  void (*plain_few)(const LinearJob& job, int64_t begin, int64_t end);  // these two give the same bits
  void (*plain_many)(const LinearJob& job, int64_t begin, int64_t end);
  int64_t unit;
};

bool needs(const LinearArgs& args, Int8Run run) {
  const std::vector<quant::Part>& parts = args.weight->parts;
  return std::any_of(parts.begin(), parts.end(),
                     [&](const quant::Part& part) { return int8_run(part.format) == run; });
}

// The activations rounded in runs of `run` elements, where a part needs them so.
Int8Rows rounded(const LinearArgs& args, Int8Run run, const Kernels& kernels, Context& context) {
  if (!needs(args, run)) return {};
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  Arena& arena = context.arena();
  Int8Rows rows{.run = run,
                .q = arena.take(DType::i8, {T, K}).ptr<int8_t>(),
                .scales = arena.take(DType::f32, {T, K / elems_of(run)}).ptr<float>()};
  if (run == Int8Run::of32) rows.scaled_sums = arena.take(DType::f32, {T, K / 32}).ptr<float>();
  rows.sums = arena.take(DType::i32, {T, K / 32}).ptr<int32_t>();
  context.pool().parallel_for(T, grain_for(K), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      kernels.round_row(args.x.ptr<float>() + t * args.x.stride(0), K, t, rows);
    }
  });
  return rows;
}

void run_int8(const LinearArgs& args, Context& context, const Kernels& kernels) {
  const Arena::Scope scope(context.arena());
  const Int8Rows of32 = rounded(args, Int8Run::of32, kernels, context);
  const Int8Rows of256 = rounded(args, Int8Run::of256, kernels, context);
  for_parts(args, args.x, context, kernels.unit, [&](const LinearJob& job, int64_t begin, int64_t end) {
    const Int8Run run = int8_run(job.format);
    if (run != Int8Run::none) {
      kernels.multiply({job, run == Int8Run::of32 ? of32 : of256}, begin, end);
    } else {
      (job.T < 8 ? kernels.plain_few : kernels.plain_many)(job, begin, end);
    }
  });
}

}  // namespace

void linear_int8_reference(const LinearArgs& args, Context& context) {
  const auto multiply = [](const Int8Job& job, int64_t begin, int64_t end) {
    multiply_rows(job.plain, begin, end, [&](const LinearJob& rows, int64_t from, int64_t to) {
      int8_multiply_scalar({rows, job.x}, from, to);
    });
  };
  run_int8(args, context,
           {int8_round_row_scalar, multiply, plain_multiply_scalar, plain_multiply_scalar, 16});
}
void linear_cpu_int8_avx2(const LinearArgs& args, Context& context) {
  run_int8(args, context,
           {int8_round_row_avx2, int8_multiply_avx2, linear_rows_avx2, linear_panel_avx2, kInt8RowsAvx2});
}
void linear_cpu_int8_avx512(const LinearArgs& args, Context& context) {
  run_int8(args, context,
           {int8_round_row_avx512, int8_multiply_avx512, linear_rows_avx512, linear_panel_avx512,
            kInt8RowsAvx512});
}

bool linear_has_blocks(const LinearArgs& args) {
  return needs(args, Int8Run::of32) || needs(args, Int8Run::of256);
}

int64_t linear_int8_scratch_bytes(const LinearArgs& args, const Caps&) {
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  const auto taken = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };  // as the arena aligns
  int64_t bytes = 0;
  if (needs(args, Int8Run::of32)) bytes += taken(T * K) + 3 * taken(T * K / 8);
  if (needs(args, Int8Run::of256)) bytes += taken(T * K) + taken(T * K / 64) + taken(T * K / 8);
  return bytes;
}

}  // namespace llamita
