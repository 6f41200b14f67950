// The variants of attention; the table in attention.cc lists them.
#pragma once

#include "ops/attention/attention.h"

namespace llamita {

void attention_reference(const AttentionArgs& args, Context& context);

// The kernels of kernels.h, and whether they take these shapes.
void attention_cpu_avx2(const AttentionArgs& args, Context& context);
void attention_cpu_avx512(const AttentionArgs& args, Context& context);
bool attention_cpu_supports(const AttentionArgs& args);

}  // namespace llamita
