#include "hw/cpu/simd_avx512.h"
#include "ops/linear/rows_kernel.h"

namespace llamita {

void linear_rows_avx512(const LinearJob& job, int64_t begin, int64_t end) {
  linear_rows<cpu::Avx512>(job, begin, end);
}

}  // namespace llamita
