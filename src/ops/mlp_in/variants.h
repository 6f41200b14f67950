// The variants of mlp_in; the table in mlp_in.cc lists them.
#pragma once

#include "ops/mlp_in/mlp_in.h"

namespace llamita {

void mlp_in_cpu(const MlpInArgs& args, Context& context);
bool mlp_in_cpu_supports(const MlpInArgs& args, const Caps& caps);
int64_t mlp_in_cpu_scratch_bytes(const MlpInArgs& args, const Caps& caps);

void mlp_in_composition(const MlpInArgs& args, Context& context);  // on any device

void mlp_in_cuda_gemv(const MlpInArgs& args, Context& context);
bool mlp_in_gemv_supports(const MlpInArgs& args, const Caps& caps);

// Compute capability 9.0, dense weights, an activation that the epilogue has (gemm_sm90.cu).
void mlp_in_gemm_sm90(const MlpInArgs& args, Context& context);
bool mlp_in_gemm_sm90_supports(const MlpInArgs& args, const Caps& caps);
double mlp_in_gemm_sm90_us(const MlpInArgs& args, const Caps& caps);
int64_t mlp_in_gemm_sm90_scratch_bytes(const MlpInArgs& args, const Caps& caps);
// The same with consumers that take turns (linear/tiles.h).
void mlp_in_gemm_sm90_ping_pong(const MlpInArgs& args, Context& context);
double mlp_in_gemm_sm90_ping_pong_us(const MlpInArgs& args, const Caps& caps);

// The same for up to 128 tokens (skinny_sm90.cu).
void mlp_in_skinny_sm90(const MlpInArgs& args, Context& context);
bool mlp_in_skinny_sm90_supports(const MlpInArgs& args, const Caps& caps);
double mlp_in_skinny_sm90_us(const MlpInArgs& args, const Caps& caps);
int64_t mlp_in_skinny_sm90_scratch_bytes(const MlpInArgs& args, const Caps& caps);

}  // namespace llamita
