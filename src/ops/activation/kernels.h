// What crosses from the generic code of activation into the per-ISA files.
#pragma once

#include <cstdint>

namespace llamita {

enum class ActivationKernel { silu, gelu_tanh, quick_gelu, relu };

// One row: out = act(gate) * up, or act(gate) when up is nullptr. out may be gate or up.
void activation_row_avx2(ActivationKernel kind, const float* gate, const float* up, float* out, int64_t F);
void activation_row_avx512(ActivationKernel kind, const float* gate, const float* up, float* out, int64_t F);

}  // namespace llamita
