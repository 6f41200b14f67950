// From the arguments of linear to the per-ISA kernels that multiply in f32.
#include <algorithm>
#include <cstring>

#include "ops/linear/parts.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

using Kernel = void (*)(const LinearJob& job, int64_t begin, int64_t end);

constexpr int64_t kGroup = 32;    // what the kernels decode at once
constexpr int64_t kRowsUnit = 4;  // rows the kernel for few tokens runs side by side

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

void run_rows(const LinearArgs& args, Context& context, Kernel kernel) {
  const Arena::Scope scope(context.arena());
  // A unit of an interleaved weight is whole groups.
  const int64_t rows = args.weight->layout == quant::Layout::interleaved ? kPanelRows : kRowsUnit;
  for_parts(
      args, whole_groups(args.x, context.arena()), context, rows,
      [&](const LinearJob& job, int64_t begin, int64_t end) { multiply_rows(job, begin, end, kernel); });
}

void run_panels(const LinearArgs& args, Context& context, Kernel kernel, int64_t lanes) {
  const Arena::Scope scope(context.arena());
  const float* tiles = linear_panel_tiles(args.x, lanes, context);
  for_parts(args, args.x, context, kPanelRows, [&](LinearJob job, int64_t begin, int64_t end) {
    job.x_tiles = tiles;
    multiply_rows(job, begin, end, kernel);
  });
}

}  // namespace

const float* linear_panel_tiles(const Tensor& x, int64_t lanes, Context& context) {
  const int64_t T = x.dim(0), K = x.dim(1), tiles = (T + kPanelTokens - 1) / kPanelTokens;
  auto* packed = context.arena().take(DType::f32, {tiles, padded(K), kPanelTokens}).ptr<float>();
  context.pool().parallel_for(tiles, grain_for(kPanelTokens * K), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin * kPanelTokens; t < end * kPanelTokens; ++t) {
      const float* row = t < T ? x.ptr<float>() + t * x.stride(0) : nullptr;
      float* to = packed + t / kPanelTokens * padded(K) * kPanelTokens + t % kPanelTokens * lanes;
      for (int64_t k = 0; k < padded(K); k += lanes, to += kPanelTokens * lanes) {
        const int64_t count = row != nullptr ? std::clamp<int64_t>(K - k, 0, lanes) : 0;
        if (count > 0) std::memcpy(to, row + k, static_cast<size_t>(count) * sizeof(float));
        std::fill(to + count, to + lanes, 0.0f);
      }
    }
  });
  return packed;
}

void linear_cpu_rows_avx2(const LinearArgs& args, Context& context) {
  run_rows(args, context, linear_rows_avx2);
}
void linear_cpu_panel_avx2(const LinearArgs& args, Context& context) {
  run_panels(args, context, linear_panel_avx2, 8);
}
void linear_cpu_rows_avx512(const LinearArgs& args, Context& context) {
  run_rows(args, context, linear_rows_avx512);
}
void linear_cpu_panel_avx512(const LinearArgs& args, Context& context) {
  run_panels(args, context, linear_panel_avx512, 16);
}

void linear_cpu_bf16_avx512(const LinearArgs& args, Context& context) {
  const Arena::Scope scope(context.arena());
  const int64_t T = args.x.dim(0), K = args.weight->cols, stride = padded(K);
  auto* rounded = static_cast<uint16_t*>(context.arena().take(DType::bf16, {T, stride}).data());
  context.pool().parallel_for(T, grain_for(K / 4), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      bf16_round_row_avx512(args.x.ptr<float>() + t * args.x.stride(0), K, rounded + t * stride);
    }
  });
  for_parts(args, args.x, context, kBf16BlockRows, [&](const LinearJob& job, int64_t begin, int64_t end) {
    bf16_multiply_avx512({job, rounded, stride}, begin, end);
  });
}

int64_t linear_cpu_bf16_scratch_bytes(const LinearArgs& args, const Caps&) {
  return args.x.dim(0) * padded(args.weight->cols) * 2;
}

bool linear_is_bf16(const LinearArgs& args) {
  const std::vector<quant::Part>& parts = args.weight->parts;
  return args.weight->layout == quant::Layout::rows &&
         std::all_of(parts.begin(), parts.end(),
                     [](const quant::Part& part) { return part.format == DType::bf16; });
}

int64_t linear_panel_tiles_bytes(const LinearArgs& args) {
  const int64_t tiles = (args.x.dim(0) + kPanelTokens - 1) / kPanelTokens;
  return tiles * kPanelTokens * padded(args.weight->cols) * static_cast<int64_t>(sizeof(float));
}
int64_t linear_cpu_panel_scratch_bytes(const LinearArgs& args, const Caps&) {
  return linear_panel_tiles_bytes(args);
}

int64_t linear_cpu_scratch_bytes(const LinearArgs& args, const Caps&) {
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  return padded(K) == K ? 0 : T * padded(K) * static_cast<int64_t>(sizeof(float));
}

}  // namespace llamita
