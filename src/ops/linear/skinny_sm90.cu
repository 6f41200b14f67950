// skinny_sm90: linear for up to 128 tokens on Hopper, matrix by matrix of the weight; how a product is cut,
// and what it is expected to need.
#include "ops/linear/skinny_sm90.h"

#include <algorithm>

#include "base/check.h"
#include "ops/cuda.h"
#include "ops/linear/dense_matrices.h"
#include "ops/linear/gemm_sm80.cuh"
#include "ops/linear/gemm_sm90.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

constexpr int kSplits[] = {1, 2, 3, 4, 6, 8};

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

int rows_in_all(const SkinnySm90& g) { return g.w_up != nullptr ? 2 * g.N : g.N; }

SkinnyPlan cut(int tokens, int rows, int tile_rows, int split) {
  const int tiles = (rows + tile_rows - 1) / tile_rows;
  return {.tokens = tokens <= 16   ? 16
                    : tokens <= 32 ? 32
                    : tokens <= 64 ? 64
                                   : 128,
          .tile_rows = tile_rows,
          .split = split,
          .blocks = tiles * split};
}

bool fits(const SkinnyPlan& plan, int K) { return plan.split == 1 || 2 * plan.split <= (K + 63) / 64; }

// What PreparingEpilogue relies on.
bool can_prepare(const SkinnySm90& g) {
  return g.out_dtype == DType::f32 && g.N % kNormRun == 0 && g.w_up == nullptr && !g.activation &&
         g.out_stride % 4 == 0 && g.residual_stride % 4 == 0 && aligned(g.out) && aligned(g.bias) &&
         aligned(g.residual) && aligned(g.next_gain) && aligned(g.next_scaled);
}

int places(const Caps& caps) { return 2 * std::max(caps.sm_count, 1); }

}  // namespace

SkinnyNorm skinny_norm(const PreparedNorm& prepared, float eps) {
  if (!prepared.defined() || prepared.scaled.shape_only()) return {};
  return {.squares = prepared.squares.ptr<float>(),
          .runs = static_cast<int>(prepared.squares.dim(0)),
          .columns = static_cast<float>(prepared.scaled.dim(1)),
          .eps = eps,
          .share = norm_share(prepared.scaled.dtype())};
}

std::vector<SkinnyPlan> skinny_sm90_plans(int tokens, int rows, int K, const Caps& caps) {
  std::vector<SkinnyPlan> plans;
  for (const int tile_rows : {64, 128})
    for (const int split : kSplits) {
      const SkinnyPlan plan = cut(tokens, rows, tile_rows, split);
      if (tile_rows == 128 && plan.tokens != 64) continue;
      if (fits(plan, K) && (split == 1 || plan.blocks <= places(caps))) plans.push_back(plan);
    }
  return plans;
}

// Held against every cut of 13 shapes at 4 to 128 tokens (docs/performance/kernels.md): within 2.5 % of the
// best of each, at most shapes the best.
// - Tiles of 128 rows halve the reading of x: at 64 tokens, where they come to an eighth of the places.
// - As many parts as leave a quarter of the places free (clusters of two find room in all), but no part
//   below eight steps of 64 rows once a third of the places are taken.
SkinnyPlan skinny_sm90_plan(int tokens, int rows, int K, const Caps& caps) {
  SkinnyPlan plan = cut(tokens, rows, 64, 1);
  if (plan.tokens == 64 && 4 * plan.blocks > places(caps)) plan = cut(tokens, rows, 128, 1);
  const int shortest = 8 * 64 / plan.tile_rows;
  for (const int split : kSplits) {
    const SkinnyPlan finer = cut(tokens, rows, plan.tile_rows, split);
    const int usable = split == 2 ? places(caps) : places(caps) * 3 / 4;
    const bool is_short = (K + 63) / 64 < shortest * split;
    if (!fits(finer, K) || finer.blocks > usable) continue;
    if (!is_short || 3 * plan.blocks < places(caps)) plan = finer;
  }
  return plan;
}

bool skinny_sm90_supports(const SkinnySm90& g, const Caps& caps) {
  return caps.device == DeviceKind::cuda && caps.arch == 90 && g.M <= kSkinnyMaxTokens &&
         (g.element == DType::bf16 || g.element == DType::f16) &&
         (g.out_dtype == DType::f32 || g.out_dtype == g.element) && g.K % 8 == 0 && g.x_stride % 8 == 0 &&
         aligned(g.x) && aligned(g.w) && aligned(g.w_up) && (!g.prepares || can_prepare(g)) &&
         ((g.w_up == nullptr && !g.activation) || (g.out_dtype == g.element && g.residual == nullptr &&
                                                   sm90_epilogue_activates(g.activation, g.w_up != nullptr)));
}

// A start and an end that nothing hides and that grow with the tile's tokens, and a stream that the reading
// of x slows, most where places stay free: within 5 % of nearly all times in docs/performance/kernels.md.
double skinny_sm90_us(const SkinnySm90& g, const Caps& caps) {
  const SkinnyPlan plan = skinny_sm90_plan(g.M, rows_in_all(g), g.K, caps);
  const double weights = 2.0 * rows_in_all(g) * g.K;
  const int turns = (plan.blocks + places(caps) - 1) / places(caps);
  const double idle = 1 - plan.blocks / (1.0 * turns * places(caps));
  return 0.8 + 0.024 * plan.tokens + weights / 3.06e6 * (1.02 + plan.tokens * (0.0002 + 0.0018 * idle));
}

void skinny_sm90(const SkinnySm90& g, Context& context) {
  skinny_sm90(g, skinny_sm90_plan(g.M, rows_in_all(g), g.K, context.caps()), context);
}

void skinny_sm90(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  LLAMITA_CHECK(skinny_sm90_supports(g, context.caps()), "skinny_sm90: ", g.M, " x ", g.N, " x ", g.K);
  if (g.M == 0 || g.N == 0) return;
  if (g.element == DType::bf16)
    skinny_sm90_bf16(g, plan, context);
  else
    skinny_sm90_f16(g, plan, context);
}

namespace {

// The head's rows of f32 are rounded first; everything else comes as it is multiplied.
bool converts(const LinearArgs& args) { return args.x.dtype() == DType::f32; }

DType element_of(const LinearArgs& args) {
  return args.weight->parts.empty() ? DType::f32 : args.weight->parts.front().format;
}

SkinnySm90 rows_of(const LinearArgs& args, const void* x, const void* w, int64_t first, int64_t rows) {
  const int64_t bytes = info(args.out.dtype()).block_bytes;
  const auto at = [&](const Tensor& t) {
    return t.shape_only() ? nullptr : static_cast<uint8_t*>(t.data()) + first * bytes;
  };
  SkinnySm90 g{};
  g.x = x;
  g.w = w;
  g.element = element_of(args);
  g.M = static_cast<int>(args.x.dim(0));
  g.N = static_cast<int>(rows);
  g.K = static_cast<int>(args.weight->cols);
  g.x_stride = converts(args) ? g.K : args.x.stride(0);
  g.bias = args.bias.defined() && !args.bias.shape_only() ? args.bias.ptr<float>() + first : nullptr;
  if (args.residual.defined()) {
    g.residual = at(args.residual);
    g.residual_stride = args.residual.stride(0);
  }
  g.out = at(args.out);
  g.out_dtype = args.out.dtype();
  g.out_stride = args.out.stride(0);
  if (args.prepared.defined()) {
    g.prepares = true;
    g.next_gain = args.next_gain.shape_only() ? nullptr : args.next_gain.ptr<float>();
    g.next_scaled = args.prepared.scaled.data();
    g.next_squares = args.prepared.squares.ptr<float>();
  }
  return g;
}

template <class Visit>
void for_each_product(const LinearArgs& args, const void* x, Visit visit) {
  for_each_dense_matrix(*args.weight, [&](const void* w, int64_t first, int64_t rows) {
    visit(rows_of(args, x, w, first, rows));
  });
}

const void* x_as_it_lies(const LinearArgs& args) { return converts(args) ? nullptr : args.x.data(); }

}  // namespace

bool linear_skinny_sm90_supports(const LinearArgs& args, const Caps& caps) {
  const DType element = element_of(args);
  bool fits = caps.device == DeviceKind::cuda && (args.x.dtype() == element || converts(args)) &&
              (!args.prepared.defined() || args.prepared.scaled.dtype() == element) &&
              args.weight->layout == quant::Layout::rows && args.x.dim(0) <= kSkinnyMaxTokens &&
              (!args.residual.defined() || args.residual.dtype() == args.out.dtype());
  for (const quant::Part& part : args.weight->parts)
    fits = fits && part.format == element && !is_block(element);
  if (!fits) return false;
  int products = 0;
  for_each_product(args, x_as_it_lies(args), [&](const SkinnySm90& g) {
    fits = fits && skinny_sm90_supports(g, caps);
    ++products;
  });
  return fits && (products == 1 || !args.prepared.defined());
}

double linear_skinny_sm90_us(const LinearArgs& args, const Caps& caps) {
  double us = converts(args) ? 2 : 0;
  for_each_product(args, nullptr, [&](const SkinnySm90& g) { us += skinny_sm90_us(g, caps); });
  return us;
}

int64_t linear_skinny_sm90_scratch_bytes(const LinearArgs& args, const Caps&) {
  return converts(args) ? (args.x.dim(0) * args.weight->cols * 2 + 63) / 64 * 64 : 0;
}

void linear_cuda_skinny_sm90(const LinearArgs& args, Context& context) {
  if (args.x.dim(0) == 0) return;
  const Arena::Scope scope(context.arena());
  const void* x = x_as_it_lies(args);
  if (converts(args)) {
    const int64_t K = args.weight->cols;
    const Tensor rounded = context.arena().take(element_of(args), {args.x.dim(0), K});
    convert_rows(args.x, rounded.data(), element_of(args), K, context);
    x = rounded.data();
  }
  for_each_product(args, x, [&](const SkinnySm90& g) { skinny_sm90(g, context); });
}

}  // namespace llamita
