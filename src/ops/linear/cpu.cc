// From the arguments of linear to the per-ISA kernels: the parts of the weight one after the other, cut into
// units of rows that the threads take. How rows are cut changes no result: a row's outputs depend on nothing
// but the row.
#include <algorithm>
#include <cstring>

#include "ops/cpu.h"
#include "ops/linear/kernels.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

using Kernel = void (*)(const LinearJob& job, int64_t begin, int64_t end);

constexpr int64_t kGroup = 32;  // what the kernels decode at once

int64_t padded(int64_t K) { return (K + kGroup - 1) / kGroup * kGroup; }

// x itself, or where its rows are no whole groups, a copy whose rows are.
Tensor whole_groups(const Tensor& x, Arena& arena) {
  const int64_t T = x.dim(0), K = x.dim(1);
  if (padded(K) == K) return x;
  const Tensor copy = arena.take(DType::f32, {T, padded(K)});
  for (int64_t t = 0; t < T; ++t) {
    float* row = copy.ptr<float>() + t * padded(K);
    std::memcpy(row, x.ptr<float>() + t * x.stride(0), static_cast<size_t>(K) * sizeof(float));
    std::fill(row + K, row + padded(K), 0.0f);
  }
  return copy;
}

LinearJob job_of(const LinearArgs& args, const Tensor& x, const quant::Part& part, int64_t first_row) {
  const bool residual = args.residual.defined();
  return {.weight = static_cast<const uint8_t*>(part.storage.data()),
          .weight_stride = row_bytes(part.format, args.weight->cols),
          .format = part.format,
          .K = args.weight->cols,
          .x = x.ptr<float>(),
          .x_stride = x.stride(0),
          .T = x.dim(0),
          .bias = args.bias.defined() ? args.bias.ptr<float>() + first_row : nullptr,
          .residual = residual ? args.residual.ptr<float>() + first_row : nullptr,
          .residual_stride = residual ? args.residual.stride(0) : 0,
          .out = args.out.ptr<float>() + first_row,
          .out_stride = args.out.stride(0)};
}

void run_parts(const LinearArgs& args, Context& context, Kernel kernel, int64_t unit) {
  const Arena::Scope scope(context.arena());
  const Tensor x = whole_groups(args.x, context.arena());
  const std::vector<quant::Part>& parts = args.weight->parts;
  int64_t units = 0;
  for (const quant::Part& part : parts) units += (part.rows + unit - 1) / unit;
  // A multiplication costs a sixteenth of a scalar operation's share.
  const int64_t grain = grain_for(unit * args.weight->cols * args.x.dim(0) / 8);
  context.pool().parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    int64_t first_unit = 0, first_row = 0;
    for (const quant::Part& part : parts) {
      const int64_t part_units = (part.rows + unit - 1) / unit;
      const int64_t from = std::max(begin - first_unit, int64_t{0}),
                    to = std::min(end - first_unit, part_units);
      if (from < to) kernel(job_of(args, x, part, first_row), from * unit, std::min(to * unit, part.rows));
      first_unit += part_units;
      first_row += part.rows;
    }
  });
}

constexpr int64_t kRowsUnit = 4;  // rows the kernel for few tokens runs side by side

}  // namespace

void linear_cpu_rows_avx2(const LinearArgs& args, Context& context) {
  run_parts(args, context, linear_rows_avx2, kRowsUnit);
}
void linear_cpu_panel_avx2(const LinearArgs& args, Context& context) {
  run_parts(args, context, linear_panel_avx2, kPanelRows);
}
void linear_cpu_rows_avx512(const LinearArgs& args, Context& context) {
  run_parts(args, context, linear_rows_avx512, kRowsUnit);
}
void linear_cpu_panel_avx512(const LinearArgs& args, Context& context) {
  run_parts(args, context, linear_panel_avx512, kPanelRows);
}

int64_t linear_cpu_scratch_bytes(const LinearArgs& args, const Caps&) {
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  return padded(K) == K ? 0 : T * padded(K) * static_cast<int64_t>(sizeof(float));
}

}  // namespace llamita
