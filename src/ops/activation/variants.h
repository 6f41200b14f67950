// The variants of activation; the table in activation.cc lists them.
#pragma once

#include "ops/activation/activation.h"

namespace llamita {

void activation_reference(const ActivationArgs& args, Context& context);
// All kinds but the exact gelu.
void activation_cpu_avx2(const ActivationArgs& args, Context& context);
void activation_cpu_avx512(const ActivationArgs& args, Context& context);
void activation_cuda(const ActivationArgs& args, Context& context);

}  // namespace llamita
