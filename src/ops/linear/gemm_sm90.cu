// gemm_sm90: linear by the Hopper GEMM, part by part of the weight; which tile width it takes, and what it
// expects to need.
#include "ops/linear/gemm_sm90.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/cuda.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

constexpr int kTileM = 128;
constexpr int kWidths[] = {256, 224, 192, 160, 128};

// Clocks of a launch: whole waves of tiles, each step of 64 along K at the slower of wgmma (half a clock a
// column and 16 of K, for each of two consumers) and L2 (45 bytes a clock an SM), plus an epilogue that
// nothing hides. docs/performance/kernels.md holds the model against measured times.
double clocks(const GemmSm90& g, int width, int sm_count) {
  const int cluster = (g.M + kTileM - 1) / kTileM % 2 == 0 ? 2 : 1;
  const int columns = g.b_up != nullptr ? width / 2 : width;
  const double tiles = std::ceil(static_cast<double>(g.M) / (kTileM * cluster)) *
                       std::ceil(static_cast<double>(g.N) / columns);
  const double waves = std::ceil(tiles / std::max(sm_count / cluster, 1));
  const double multiply = 4.0 * width + 24, load = (kTileM + width / cluster) * 128 / 45.0;
  const double epilogue = 600 + (g.kind == GemmSm90::Out::element ? 6.0 : 12.0) * columns;
  return 3000 + waves * (std::ceil(g.K / 64.0) * std::max(multiply, load) + epilogue);
}

int best_width(const GemmSm90& g, int sm_count) {
  int best = 256;
  for (const int width : kWidths) {
    if (g.b_up != nullptr && width % 64 != 0) continue;
    if (clocks(g, width, sm_count) < clocks(g, best, sm_count)) best = width;
  }
  return best;
}

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

GateCoefficients gate_coefficients(Activation activation) {
  switch (activation) {
    case Activation::silu: return {1, 0};
    case Activation::quick_gelu: return {1.702f, 0};
    case Activation::gelu_tanh: return {1.59576912f, 1.59576912f * 0.044715f};  // 2 sqrt(2 / pi)
    default: return {0, 0};
  }
}

bool gemm_sm90_supports(const GemmSm90& g, const Caps& caps) {
  const int64_t out_bytes = g.kind == GemmSm90::Out::element ? 2 : 4;
  return caps.device == DeviceKind::cuda && caps.arch == 90 &&
         (g.element == DType::bf16 || g.element == DType::f16) && g.K % 8 == 0 && g.a_stride % 8 == 0 &&
         g.out_stride * out_bytes % 16 == 0 && aligned(g.a) && aligned(g.b) && aligned(g.b_up) &&
         aligned(g.out) &&
         (g.b_up == nullptr ||
          (g.kind == GemmSm90::Out::element && gate_coefficients(g.activation).linear != 0));
}

double gemm_sm90_us(const GemmSm90& g, const Caps& caps) {
  constexpr double kClocksPerUs = 1500;  // all SMs at the power limit
  const double weights = (g.b_up != nullptr ? 4.0 : 2.0) * g.N * g.K;
  return std::max(clocks(g, best_width(g, caps.sm_count), caps.sm_count) / kClocksPerUs,
                  2 + cuda_memory_us(caps, 1.05 * weights));
}

void gemm_sm90(const GemmSm90& g, Context& context) {
  LLAMITA_CHECK(gemm_sm90_supports(g, context.caps()), "gemm_sm90: ", g.M, " x ", g.N, " x ", g.K);
  if (g.M == 0 || g.N == 0) return;
  const int width = best_width(g, context.caps().sm_count);
  if (g.element == DType::bf16)
    gemm_sm90_bf16(g, width, context);
  else
    gemm_sm90_f16(g, width, context);
}

namespace {

// A residual that is the output is added by the copy engine.
bool adds_in_place(const LinearArgs& args) {
  return args.residual.defined() && args.residual.data() == args.out.data() &&
         args.residual.stride(0) == args.out.stride(0) && args.out.dtype() == DType::f32;
}

// `rows` rows of the weight from row `first` on, which begin at `data`.
GemmSm90 rows_of(const LinearArgs& args, const void* data, int64_t first, int64_t rows) {
  const DType out_dtype = args.out.dtype();
  GemmSm90 g{};
  g.a = args.x.data();
  g.b = data;
  g.element = args.x.dtype();
  g.M = static_cast<int>(args.x.dim(0));
  g.N = static_cast<int>(rows);
  g.K = static_cast<int>(args.weight->cols);
  g.a_stride = args.x.stride(0);
  g.bias = args.bias.defined() && !args.bias.shape_only() ? args.bias.ptr<float>() + first : nullptr;
  g.kind = out_dtype != DType::f32 ? GemmSm90::Out::element
           : adds_in_place(args)   ? GemmSm90::Out::f32_add
                                   : GemmSm90::Out::f32;
  g.out = args.out.shape_only()
              ? nullptr
              : static_cast<uint8_t*>(args.out.data()) + first * info(out_dtype).block_bytes;
  g.out_stride = args.out.stride(0);
  return g;
}

// Parts that lie behind each other in memory are one matrix.
template <class Visit>
void for_each_matrix(const LinearArgs& args, Visit visit) {
  const std::vector<quant::Part>& parts = args.weight->parts;
  int64_t first = 0;
  for (size_t i = 0; i < parts.size();) {
    const auto* begin = static_cast<const uint8_t*>(parts[i].storage.data());
    const uint8_t* end = begin;
    int64_t rows = 0;
    do {
      rows += parts[i].rows;
      end += parts[i].rows * row_bytes(parts[i].format, args.weight->cols);
      ++i;
    } while (i < parts.size() && parts[i].storage.data() == end);
    visit(rows_of(args, begin, first, rows));
    first += rows;
  }
}

}  // namespace

bool linear_gemm_sm90_supports(const LinearArgs& args, const Caps& caps) {
  const DType element = args.x.dtype();
  bool fits = args.out.dtype() == element || args.out.dtype() == DType::f32;
  if (args.residual.defined()) fits = fits && adds_in_place(args);
  for (const quant::Part& part : args.weight->parts) fits = fits && part.format == element;
  for_each_matrix(args, [&](const GemmSm90& g) { fits = fits && gemm_sm90_supports(g, caps); });
  return fits;
}

double linear_gemm_sm90_us(const LinearArgs& args, const Caps& caps) {
  double us = 0;
  for_each_matrix(args, [&](const GemmSm90& g) { us += gemm_sm90_us(g, caps); });
  return us;
}

void linear_cuda_gemm_sm90(const LinearArgs& args, Context& context) {
  for_each_matrix(args, [&](const GemmSm90& g) { gemm_sm90(g, context); });
}

}  // namespace llamita
