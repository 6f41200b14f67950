// A weight's parts, one after the other, cut into units of rows that the threads take. How rows are cut
// changes no result: a row's outputs depend on nothing but the row.
#pragma once

#include <algorithm>

#include "ops/cpu.h"
#include "ops/linear/kernels.h"
#include "ops/linear/linear.h"
#include "quant/interleave.h"

namespace llamita {

inline LinearJob job_of(const LinearArgs& args, const Tensor& x, const quant::Part& part, int64_t first_row) {
  const bool residual = args.residual.defined();
  return {.weight = static_cast<const uint8_t*>(part.storage.data()),
          .weight_stride = row_bytes(part.format, args.weight->cols),
          .interleaved = args.weight->layout == quant::Layout::interleaved,
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

// kernel(job, begin, end), for kernels that read whole rows: those of an interleaved weight are put back some
// at a time, begin a multiple of eight.
template <class Kernel>
void multiply_rows(const LinearJob& job, int64_t begin, int64_t end, Kernel kernel) {
  if (!job.interleaved) return kernel(job, begin, end);
  constexpr int64_t kRows = 48;  // whole groups, and whole units of every kernel
  thread_local std::vector<std::byte> rows;
  rows.resize(static_cast<size_t>(kRows * job.weight_stride));
  const auto* groups = reinterpret_cast<const std::byte*>(job.weight);
  for (int64_t n = begin; n < end; n += kRows) {
    const int64_t count = std::min(kRows, end - n);
    for (int64_t r = n; r < n + count; ++r) {
      const int64_t group = r / quant::kGroupRows * quant::kGroupRows;
      quant::extract_row(job.format, groups + group * job.weight_stride, static_cast<int>(r - group), job.K,
                         rows.data() + (r - n) * job.weight_stride);
    }
    LinearJob some = job;
    some.weight = reinterpret_cast<const uint8_t*>(rows.data());
    some.interleaved = false;
    some.out += n;
    if (some.bias != nullptr) some.bias += n;
    if (some.residual != nullptr) some.residual += n;
    kernel(some, 0, count);
  }
}

// multiply(job, begin, end) for rows [begin, end) of a part, begin a multiple of `unit`.
template <class Multiply>
void for_parts(const LinearArgs& args, const Tensor& x, Context& context, int64_t unit, Multiply multiply) {
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
      if (from < to) {
        multiply(job_of(args, x, part, first_row), from * unit, std::min(to * unit, part.rows));
      }
      first_unit += part_units;
      first_row += part.rows;
    }
  });
}

}  // namespace llamita
