#include "hw/cpu/simd_avx2.h"
#include "ops/attention/float_pages.h"
#include "ops/attention/int8_pages.h"
#include "ops/attention/paged_kernel.h"

namespace llamita {

// Pointers only: nothing of this instruction set runs before someone asks for it.
constinit const AttentionKernels kAttentionAvx2 = attention_kernels<cpu::Avx2, FloatPages<cpu::Avx2>>();
constinit const AttentionKernels kAttentionInt8Avx2 = attention_kernels<cpu::Avx2, Int8Pages<cpu::Avx2>>();

}  // namespace llamita
