#include "hw/cpu/simd_avx2.h"
#include "ops/linear/rows_kernel.h"

namespace llamita {

void linear_rows_avx2(const LinearJob& job, int64_t begin, int64_t end) {
  linear_rows<cpu::Avx2>(job, begin, end);
}

}  // namespace llamita
