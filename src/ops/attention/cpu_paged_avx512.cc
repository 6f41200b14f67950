#include "hw/cpu/simd_avx512.h"
#include "ops/attention/paged_kernel.h"

namespace llamita {

// Pointers only: nothing of this instruction set runs before someone asks for it.
constinit const AttentionKernels kAttentionAvx512 = attention_kernels<cpu::Avx512>();

}  // namespace llamita
