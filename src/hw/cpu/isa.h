// Instruction sets this build has kernels for, and which of them this processor and operating system can run.
#pragma once

#include <cstdint>
#include <string_view>

namespace llamita::cpu {

// Each level contains the ones before it. avx2: AVX2 + FMA + F16C + BMI2. avx512: F, BW, VL, DQ, VNNI and
// BF16.
enum class Isa : uint8_t { generic, avx2, avx512 };

std::string_view name(Isa isa);

// The best level of this machine, or a lower one forced by LLAMITA_ISA=generic|avx2|avx512 (Error when the
// machine lacks it or the name is unknown).
Isa detect_isa();
// The best level of this machine, whatever the environment says.
Isa best_isa();

}  // namespace llamita::cpu
