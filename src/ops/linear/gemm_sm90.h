// What the Hopper GEMM takes (gemm_sm90.cuh): one dense matrix of 16-bit weights, or the two of a gated
// feed-forward block.
#pragma once

#include <optional>

#include "ops/activation/activation.h"
#include "ops/context.h"
#include "ops/linear/tiles.h"

namespace llamita {

// out(M, N) = a(M, K) b(N, K)^T + bias, or out += the same, or act() of the same; with b_up: out(M, N) =
// act(a b^T + bias) * (a b_up^T + bias_up). Everything dense but for row strides.
struct GemmSm90 {
  enum class Out : uint8_t {
    element,  // stored in the type of a
    f32,      // stored in fp32
    f32_add,  // added to fp32 that is there
  };

  const void* a;
  const void* b;
  const void* b_up = nullptr;  // gated: Out::element
  DType element;               // bf16 or f16: of a and b
  int M, N, K;
  int64_t a_stride;                      // elements
  const float* bias = nullptr;           // (N)
  const float* bias_up = nullptr;        // (N), of b_up
  std::optional<Activation> activation;  // of b's side when gated; else with Out::element only
  Out kind;
  void* out;
  int64_t out_stride;  // elements
};

// Whether an epilogue of the Hopper products can do it. Gated: silu, gelu_tanh and quick_gelu; of a single
// product gelu too.
bool sm90_epilogue_activates(std::optional<Activation> activation, bool gated);

// The copy engine wants 16-byte borders and strides; the rest is free.
bool gemm_sm90_supports(const GemmSm90& gemm, const Caps& caps);
// Microseconds by a schedule's best tile, for the estimates of the ops' tables, which choose the schedule.
double gemm_sm90_us(const GemmSm90& gemm, GemmSchedule schedule, const Caps& caps);
void gemm_sm90(const GemmSm90& gemm, GemmSchedule schedule, Context& context);
// With a tile of the caller's choice, which must fit (benchmarks).
void gemm_sm90(const GemmSm90& gemm, GemmTile tile, Context& context);
GemmShape gemm_sm90_shape(const GemmSm90& gemm, const Caps& caps);

// The two halves of gemm_sm90(), one a file so that they compile side by side.
void gemm_sm90_bf16(const GemmSm90& gemm, GemmTile tile, Context& context);
void gemm_sm90_f16(const GemmSm90& gemm, GemmTile tile, Context& context);

}  // namespace llamita
