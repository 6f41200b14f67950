#include "hw/cpu/simd_avx2.h"
#include "ops/attention/paged_kernel.h"

namespace llamita {

// Pointers only: nothing of this instruction set runs before someone asks for it.
constinit const AttentionKernels kAttentionAvx2 = attention_kernels<cpu::Avx2>();

}  // namespace llamita
