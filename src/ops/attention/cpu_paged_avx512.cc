#include "hw/cpu/simd_avx512.h"
#include "ops/attention/paged_kernel.h"

namespace llamita {

void attention_avx512(const AttentionJob& job) {
  PagedAttention<cpu::Avx512> attention;
  attention.run(job);
}

}  // namespace llamita
