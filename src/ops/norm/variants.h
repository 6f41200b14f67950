// The variants of norm; the table in norm.cc lists them.
#pragma once

#include "ops/norm/norm.h"

namespace llamita {

void norm_reference(const NormArgs& args, Context& context);
void norm_cuda_rows(const NormArgs& args, Context& context);

}  // namespace llamita
