// The variants of attention; the table in attention.cc lists them.
#pragma once

#include "ops/attention/attention.h"

namespace llamita {

void attention_reference(const AttentionArgs& args, Context& context);

}  // namespace llamita
