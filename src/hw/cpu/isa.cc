#include "hw/cpu/isa.h"

#include <cstdlib>
#include <string>

#include "base/cat.h"
#include "llamita/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace llamita::cpu {

namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned word, int index) { return (word >> index & 1) != 0; }

// Which register files the operating system saves: a processor's AVX is of no use without it.
unsigned saved_state() {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

Isa probe() {
  const Registers basic = cpuid(1, 0);
  const Registers extended = cpuid(7, 0);
  const Registers extended1 = cpuid(7, 1);
  if (!bit(basic.ecx, 27)) return Isa::generic;  // OSXSAVE
  const unsigned saved = saved_state();
  const bool fma_f16c_avx = bit(basic.ecx, 12) && bit(basic.ecx, 29) && bit(basic.ecx, 28);
  const bool avx2_bmi2 = bit(extended.ebx, 5) && bit(extended.ebx, 8);
  if ((saved & 0x6) != 0x6 || !fma_f16c_avx || !avx2_bmi2) return Isa::generic;  // XMM, YMM
  const bool f_dq_bw_vl =
      bit(extended.ebx, 16) && bit(extended.ebx, 17) && bit(extended.ebx, 30) && bit(extended.ebx, 31);
  const bool vnni_bf16 = bit(extended.ecx, 11) && bit(extended1.eax, 5);
  if ((saved & 0xe0) != 0xe0 || !f_dq_bw_vl || !vnni_bf16) return Isa::avx2;  // masks, ZMM
  return Isa::avx512;
}

#else

Isa probe() { return Isa::generic; }

#endif

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "";
}

Isa best_isa() {
  static const Isa best = probe();
  return best;
}

Isa detect_isa() {
  const char* forced = std::getenv("LLAMITA_ISA");
  if (forced == nullptr || *forced == '\0') return best_isa();
  for (const Isa isa : {Isa::generic, Isa::avx2, Isa::avx512}) {
    if (name(isa) != forced) continue;
    if (isa > best_isa()) {
      throw Error(cat("LLAMITA_ISA=", std::string(forced), ": this machine has ", name(best_isa()),
                      " at the most; unset it or name a lower one"));
    }
    return isa;
  }
  throw Error(cat("LLAMITA_ISA=", std::string(forced), " is unknown; give generic, avx2 or avx512"));
}

}  // namespace llamita::cpu
