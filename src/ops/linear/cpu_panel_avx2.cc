#include "hw/cpu/simd_avx2.h"
#include "ops/linear/panel_kernel.h"

namespace llamita {

void linear_panel_avx2(const LinearJob& job, int64_t begin, int64_t end) {
  linear_panel<cpu::Avx2>(job, begin, end);
}

}  // namespace llamita
