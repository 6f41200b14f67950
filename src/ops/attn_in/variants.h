// The variants of attn_in; the table in attn_in.cc lists them.
#pragma once

#include "ops/attn_in/attn_in.h"

namespace llamita {

void attn_in_cpu(const AttnInArgs& args, Context& context);
bool attn_in_cpu_supports(const AttnInArgs& args, const Caps& caps);
int64_t attn_in_cpu_scratch_bytes(const AttnInArgs& args, const Caps& caps);

void attn_in_composition(const AttnInArgs& args, Context& context);

void attn_in_cuda_gemv(const AttnInArgs& args, Context& context);
bool attn_in_gemv_supports(const AttnInArgs& args, const Caps& caps);
// Compute capability 9.0, dense weights in one piece, up to 128 tokens (skinny_sm90.cu).
void attn_in_skinny_sm90(const AttnInArgs& args, Context& context);
bool attn_in_skinny_sm90_supports(const AttnInArgs& args, const Caps& caps);
double attn_in_skinny_sm90_us(const AttnInArgs& args, const Caps& caps);
int64_t attn_in_skinny_sm90_scratch_bytes(const AttnInArgs& args, const Caps& caps);

void attn_in_cuda_composition(const AttnInArgs& args, Context& context);

}  // namespace llamita
