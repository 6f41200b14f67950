#include "hw/cpu/simd_avx512.h"
#include "ops/attention/float_pages.h"
#include "ops/attention/int8_pages.h"
#include "ops/attention/paged_kernel.h"

namespace llamita {

// Pointers only: nothing of this instruction set runs before someone asks for it.
constinit const AttentionKernels kAttentionAvx512 = attention_kernels<cpu::Avx512, FloatPages<cpu::Avx512>>();
constinit const AttentionKernels kAttentionInt8Avx512 =
    attention_kernels<cpu::Avx512, Int8Pages<cpu::Avx512>>();

}  // namespace llamita
