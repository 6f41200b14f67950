#include "hw/cpu/simd_avx2.h"
#include "ops/attention/paged_kernel.h"

namespace llamita {

void attention_avx2(const AttentionJob& job) {
  PagedAttention<cpu::Avx2> attention;
  attention.run(job);
}

}  // namespace llamita
