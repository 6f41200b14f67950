#include "hw/cpu/simd_avx512.h"
#include "ops/linear/panel_kernel.h"
#include "ops/linear/stream_kernel.h"

namespace llamita {

void linear_panel_avx512(const LinearJob& job, int64_t begin, int64_t end) {
  if (job.T <= kStreamTokens) return linear_stream<cpu::Avx512>(job, begin, end);
  linear_panel<cpu::Avx512>(job, begin, end);
}

}  // namespace llamita
