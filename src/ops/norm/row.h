// One row of norm on the CPU, for fused ops: the bits of norm.
#pragma once

#include "ops/norm/norm.h"

namespace llamita {

// x, weight, out: C floats; bias too, or nullptr. out may be x.
void norm_row(NormKind kind, const float* x, const float* weight, const float* bias, float eps, int64_t C,
              float* out);

}  // namespace llamita
