// The variants of attention; the table in attention.cc lists them.
#pragma once

#include "ops/attention/attention.h"

namespace llamita {

void attention_reference(const AttentionArgs& args, Context& context);

// The kernels of kernels.h, and whether they take these shapes.
void attention_cpu_avx2(const AttentionArgs& args, Context& context);
void attention_cpu_avx512(const AttentionArgs& args, Context& context);
bool attention_cpu_supports(const AttentionArgs& args);
int64_t attention_cpu_scratch_bytes(const AttentionArgs& args, const Caps& caps);

// FlashAttention-3's form on compute capability 9.0 (flash3_sm90.cu): bf16 or f16, head dimension 64 or 128.
void attention_flash3_sm90(const AttentionArgs& args, Context& context);
bool attention_flash3_supports(const AttentionArgs& args, const Caps& caps);
int64_t attention_flash3_scratch_bytes(const AttentionArgs& args, const Caps& caps);

// On a GPU.
void attention_cuda_simple(const AttentionArgs& args, Context& context);
bool attention_cuda_simple_supports(const AttentionArgs& args);
void attention_cuda_paged_decode(const AttentionArgs& args, Context& context);
bool attention_paged_decode_supports(const AttentionArgs& args);
int64_t attention_paged_decode_scratch(const AttentionArgs& args, const Caps& caps);
void attention_cuda_flash2(const AttentionArgs& args, Context& context);
bool attention_flash2_supports(const AttentionArgs& args);

}  // namespace llamita
