// One row of activation on the CPU, for fused ops: the bits of the variant that the table chooses there.
// Every element depends on its gate and up alone, so that a row may be cut anywhere.
#pragma once

#include "hw/cpu/isa.h"
#include "ops/activation/activation.h"

namespace llamita {

// out = act(gate) * up, or act(gate) when up is nullptr. out may be gate or up.
void activation_row(Activation kind, cpu::Isa isa, const float* gate, const float* up, float* out, int64_t F);

// In double, rounded once.
void activation_row_reference(Activation kind, const float* gate, const float* up, float* out, int64_t F);

}  // namespace llamita
