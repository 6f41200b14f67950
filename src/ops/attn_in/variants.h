// The variants of attn_in; the table in attn_in.cc lists them.
#pragma once

#include "ops/attn_in/attn_in.h"

namespace llamita {

void attn_in_composition(const AttnInArgs& args, Context& context);

}  // namespace llamita
