#include "hw/cpu/bf16_rate.h"

#include "hw/cpu/isa.h"

namespace llamita::cpu {

bool bf16_is_faster_than_f32() {
#if defined(__x86_64__)
  static const bool amd = [] {
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") != 0;
  }();
  return amd && best_isa() >= Isa::avx512;
#else
  return false;
#endif
}

}  // namespace llamita::cpu
