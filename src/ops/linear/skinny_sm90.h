// What the skinny Hopper product takes (skinny_sm90.cuh): one dense matrix of 16-bit weights, or the two of a
// gated feed-forward block, and up to 128 tokens.
#pragma once

#include <optional>
#include <vector>

#include "ops/activation/activation.h"
#include "ops/context.h"
#include "ops/norm/prepared_norm.h"

namespace llamita {

// Sums of squares of the rows of x, which is scaled (norm/prepared_norm.h): sums are multiplied by 1 / rms
// and divided by what share of x * gain it holds.
struct SkinnyNorm {
  const float* squares = nullptr;  // (runs, M), or no norm
  int runs = 0;
  float columns = 0;  // C
  float eps = 0;
  float share = 1;
};
SkinnyNorm skinny_norm(const PreparedNorm& prepared, float eps);

// out(M, N) = x(M, K) w(N, K)^T + bias + residual, or act(x w^T + bias); with w_up: act(x w^T + bias) * (x
// w_up^T + bias_up).
struct SkinnySm90 {
  const void* x;
  const void* w;
  const void* w_up = nullptr;
  DType element;  // bf16 or f16: of x and w
  int M, N, K;
  int64_t x_stride;                      // elements
  const float* bias = nullptr;           // (N)
  const float* bias_up = nullptr;        // (N), of w_up
  std::optional<Activation> activation;  // always of pairs; wants out in the type of x and no residual
  const void* residual = nullptr;        // (M, N) in out's type; may be out
  int64_t residual_stride = 0;
  void* out;
  DType out_dtype;  // f32 or element
  int64_t out_stride;
  SkinnyNorm norm;  // of x
  // Of out, f32 in vectors of four: the first half of the norm that follows. N in whole runs.
  const float* next_gain = nullptr;  // (N)
  void* next_scaled = nullptr;       // (M, N), element
  float* next_squares = nullptr;     // (N / kNormRun, M)
  bool prepares = false;             // the same, also where only shapes are known
};

inline constexpr int kSkinnyMaxTokens = 128;

// The copy engine wants 16-byte borders and strides of x and w.
bool skinny_sm90_supports(const SkinnySm90& g, const Caps& caps);
double skinny_sm90_us(const SkinnySm90& g, const Caps& caps);

// How a product is cut.
struct SkinnyPlan {
  int tokens;     // of a tile: 16, 32, 64 or 128
  int tile_rows;  // of w: 64, or 128 with a tile of 64 tokens
  int split;      // blocks that share a tile's K: 1, 2, 3, 4, 6 or 8
  int blocks;     // of the grid
};
// `rows`: of w in all, of both matrices when outputs are made of pairs.
SkinnyPlan skinny_sm90_plan(int tokens, int rows, int K, const Caps& caps);
// Every cut that may be worth a trial.
std::vector<SkinnyPlan> skinny_sm90_plans(int tokens, int rows, int K, const Caps& caps);
void skinny_sm90(const SkinnySm90& g, Context& context);
// Cut as the caller wants it (benchmarks, tests).
void skinny_sm90(const SkinnySm90& g, const SkinnyPlan& plan, Context& context);

// The two halves of skinny_sm90(), one a file so that they compile side by side.
void skinny_sm90_bf16(const SkinnySm90& g, const SkinnyPlan& plan, Context& context);
void skinny_sm90_f16(const SkinnySm90& g, const SkinnyPlan& plan, Context& context);

}  // namespace llamita
