// gemm_sm90, gemm_sm90_ping_pong: linear by the Hopper GEMM in one of its schedules, part by part of the
// weight; what it takes and what it expects to need.
#include "ops/linear/gemm_sm90.h"

#include <algorithm>

#include "base/check.h"
#include "ops/activation/sigmoid_form.h"
#include "ops/cuda.h"
#include "ops/linear/dense_matrices.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

bool sm90_epilogue_activates(std::optional<Activation> activation, bool gated) {
  if (!activation) return false;
  const SigmoidForm form = sigmoid_form(*activation);
  return form.linear != 0 && (!gated || form.quintic == 0);
}

bool gemm_sm90_supports(const GemmSm90& g, const Caps& caps) {
  const int64_t out_bytes = g.kind == GemmSm90::Out::element ? 2 : 4;
  return caps.device == DeviceKind::cuda && caps.arch == 90 &&
         (g.element == DType::bf16 || g.element == DType::f16) && g.K % 8 == 0 && g.a_stride % 8 == 0 &&
         g.out_stride * out_bytes % 16 == 0 && aligned(g.a) && aligned(g.b) && aligned(g.b_up) &&
         aligned(g.out) &&
         ((g.b_up == nullptr && !g.activation) ||
          (g.kind == GemmSm90::Out::element && sm90_epilogue_activates(g.activation, g.b_up != nullptr)));
}

GemmShape gemm_sm90_shape(const GemmSm90& g, const Caps& caps) {
  return {.M = g.M,
          .N = g.N,
          .K = g.K,
          .gated = g.b_up != nullptr,
          .activated = g.b_up == nullptr && g.activation.has_value(),
          .f32_out = g.kind != GemmSm90::Out::element,
          .sm_count = caps.sm_count};
}

double gemm_sm90_us(const GemmSm90& g, GemmSchedule schedule, const Caps& caps) {
  const GemmShape shape = gemm_sm90_shape(g, caps);
  double us = gemm_tile_us(shape, best_gemm_tile(shape, schedule));
  // Pairs stream their weights for few tokens no quicker than in the cooperative tiles of 128 rows:
  // 25.5 us for 67 MB, 37.3 for 101, 83.4 for 235.
  if (g.b_up != nullptr) return std::max(us, 1.7 + 4.0 * g.N * g.K / 2.83e6);
  // Of a large single matrix and up to 16 tokens the model and that of skinny_sm90 say the same within 0.5 %
  // (28672 x 4096, one token: 80.05 and 80.06 us), but there this kernel was at 0.983x of cuBLASLt and the
  // other, with two tokens, at 1.02x: a margin of 2 %, so that it wins by more than that or not at all.
  if (g.M <= 16) us *= 1.02;
  return us;
}

void gemm_sm90(const GemmSm90& g, GemmSchedule schedule, Context& context) {
  gemm_sm90(g, best_gemm_tile(gemm_sm90_shape(g, context.caps()), schedule), context);
}

void gemm_sm90(const GemmSm90& g, GemmTile tile, Context& context) {
  if (g.M == 0 || g.N == 0) return;  // of nothing no tile is the best
  const std::span<const GemmTile> tiles = gemm_tiles();
  LLAMITA_CHECK(
      gemm_sm90_supports(g, context.caps()) && gemm_tile_fits(gemm_sm90_shape(g, context.caps()), tile) &&
          std::find(tiles.begin(), tiles.end(), tile) != tiles.end(),
      "gemm_sm90: ", g.M, " x ", g.N, " x ", g.K, " in tiles of ", tile.height, " x ", tile.width, " / ",
      tile.splits, " / ", tile.rows, tile.schedule == GemmSchedule::ping_pong ? " ping-pong" : "");
  if (g.element == DType::bf16)
    gemm_sm90_bf16(g, tile, context);
  else
    gemm_sm90_f16(g, tile, context);
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

template <class Visit>
void for_each_matrix(const LinearArgs& args, Visit visit) {
  for_each_dense_matrix(*args.weight, [&](const void* data, int64_t first, int64_t rows) {
    visit(rows_of(args, data, first, rows));
  });
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

namespace {

double matrices_us(const LinearArgs& args, GemmSchedule schedule, const Caps& caps) {
  double us = 0;
  for_each_matrix(args, [&](const GemmSm90& g) { us += gemm_sm90_us(g, schedule, caps); });
  return us;
}

void multiply(const LinearArgs& args, GemmSchedule schedule, Context& context) {
  for_each_matrix(args, [&](const GemmSm90& g) { gemm_sm90(g, schedule, context); });
}

}  // namespace

double linear_gemm_sm90_us(const LinearArgs& args, const Caps& caps) {
  return matrices_us(args, GemmSchedule::cooperative, caps);
}

void linear_cuda_gemm_sm90(const LinearArgs& args, Context& context) {
  multiply(args, GemmSchedule::cooperative, context);
}

double linear_gemm_sm90_ping_pong_us(const LinearArgs& args, const Caps& caps) {
  return matrices_us(args, GemmSchedule::ping_pong, caps);
}

void linear_gemm_sm90_ping_pong(const LinearArgs& args, Context& context) {
  multiply(args, GemmSchedule::ping_pong, context);
}

}  // namespace llamita
