// The variants of linear; the table in linear.cc lists them.
#pragma once

#include "ops/linear/linear.h"

namespace llamita {

void linear_reference(const LinearArgs& args, Context& context);

// The kernels of kernels.h over all parts of a weight, in either layout.
void linear_cpu_rows_avx2(const LinearArgs& args, Context& context);
void linear_cpu_panel_avx2(const LinearArgs& args, Context& context);
void linear_cpu_rows_avx512(const LinearArgs& args, Context& context);
void linear_cpu_panel_avx512(const LinearArgs& args, Context& context);

// bf16 weights by activations rounded to bf16: for weights that are bf16 in all parts.
void linear_cpu_bf16_avx512(const LinearArgs& args, Context& context);
bool linear_is_bf16(const LinearArgs& args);
int64_t linear_cpu_bf16_scratch_bytes(const LinearArgs& args, const Caps& caps);

// Arena bytes of the f32 variants: for rows a copy of x filled up with zeros where K is no multiple of 32,
// for panels x in tiles.
int64_t linear_cpu_scratch_bytes(const LinearArgs& args, const Caps& caps);
int64_t linear_cpu_panel_scratch_bytes(const LinearArgs& args, const Caps& caps);

// The integer variants: int8.h. For weights with at least one part in a block format.
void linear_int8_reference(const LinearArgs& args, Context& context);
void linear_cpu_int8_avx2(const LinearArgs& args, Context& context);
void linear_cpu_int8_avx512(const LinearArgs& args, Context& context);
bool linear_has_blocks(const LinearArgs& args);
// Whether a variant that product.h can cut in pieces takes such weights.
bool linear_has_cpu_kernels(const quant::Weight& weight, const Caps& caps);
int64_t linear_int8_reference_scratch_bytes(const LinearArgs& args, const Caps& caps);
int64_t linear_cpu_int8_avx2_scratch_bytes(const LinearArgs& args, const Caps& caps);
int64_t linear_cpu_int8_avx512_scratch_bytes(const LinearArgs& args, const Caps& caps);

// On a GPU. `reads`: every part is in a format that kernels decode.
void linear_cuda_simple(const LinearArgs& args, Context& context);
bool linear_cuda_reads(const quant::Weight& weight);

void linear_cuda_gemv(const LinearArgs& args, Context& context);
bool linear_gemv_supports(const LinearArgs& args, const Caps& caps);
void linear_cuda_gemv_blocks(const LinearArgs& args, Context& context);
bool linear_gemv_blocks_supports(const LinearArgs& args, const Caps& caps);

void linear_cuda_gemm_sm80(const LinearArgs& args, Context& context);
bool linear_gemm_sm80_supports(const LinearArgs& args, const Caps& caps);
int64_t linear_gemm_sm80_scratch(const LinearArgs& args, const Caps& caps);
double linear_gemm_sm80_us(const LinearArgs& args, const Caps& caps);

// Compute capability 9.0; x and all parts in one 16-bit type, a residual only in place.
void linear_cuda_gemm_sm90(const LinearArgs& args, Context& context);
bool linear_gemm_sm90_supports(const LinearArgs& args, const Caps& caps);
double linear_gemm_sm90_us(const LinearArgs& args, const Caps& caps);
// The same with consumers that take turns (tiles.h).
void linear_gemm_sm90_ping_pong(const LinearArgs& args, Context& context);
double linear_gemm_sm90_ping_pong_us(const LinearArgs& args, const Caps& caps);

// The same for up to 128 tokens, with any residual of out's type.
void linear_cuda_skinny_sm90(const LinearArgs& args, Context& context);
bool linear_skinny_sm90_supports(const LinearArgs& args, const Caps& caps);
double linear_skinny_sm90_us(const LinearArgs& args, const Caps& caps);
int64_t linear_skinny_sm90_scratch_bytes(const LinearArgs& args, const Caps& caps);

// Never chosen, only forced.
void linear_cublaslt(const LinearArgs& args, Context& context);
bool linear_cublaslt_supports(const LinearArgs& args, const Caps& caps);
double linear_cublaslt_us(const LinearArgs& args, const Caps& caps);
int64_t linear_cublaslt_scratch(const LinearArgs& args, const Caps& caps);

}  // namespace llamita
