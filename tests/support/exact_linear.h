// While it lives, linear multiplies block formats in f32: contexts made meanwhile take the variant of their
// instruction set that unpacks weights exactly and leaves the activations as they are.
#pragma once

#include <cstdlib>
#include <string>

#include "base/cat.h"
#include "hw/cpu/isa.h"

namespace llamita::test {

class ExactLinear {
 public:
  explicit ExactLinear(cpu::Isa isa = cpu::detect_isa()) {
    const std::string variant = isa == cpu::Isa::generic ? "reference" : cat("cpu_panel_", cpu::name(isa));
    setenv("LLAMITA_KERNEL", cat("linear=", variant).c_str(), 1);
  }
  ~ExactLinear() { unsetenv("LLAMITA_KERNEL"); }
  ExactLinear(const ExactLinear&) = delete;
  ExactLinear& operator=(const ExactLinear&) = delete;
};

}  // namespace llamita::test
