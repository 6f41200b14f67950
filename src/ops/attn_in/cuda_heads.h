// What follows attn_in's projection on a GPU.
#pragma once

#include "ops/attn_in/attn_in.h"

namespace llamita {

// From qkv (T, (H + 2 Hkv) D), bias included, of any float type: q/k norm, rotary embedding and the write of
// q, K and V. One kernel.
void attn_in_finish_heads(const AttnInArgs& args, const Tensor& qkv, Context& context);

}  // namespace llamita
