#include "hw/cpu/simd_avx512.h"
#include "ops/activation/vector_kernel.h"

namespace llamita {

void activation_row_avx512(ActivationKernel kind, const float* gate, const float* up, float* out, int64_t F) {
  activation_row<cpu::Avx512>(kind, gate, up, out, F);
}

}  // namespace llamita
