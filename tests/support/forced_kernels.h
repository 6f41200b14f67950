// Forces variants (LLAMITA_KERNEL) of contexts that are made while it lives.
#pragma once

#include <cstdlib>

namespace llamita::test {

class ForcedKernels {
 public:
  explicit ForcedKernels(const char* list) { setenv("LLAMITA_KERNEL", list, 1); }
  ~ForcedKernels() { unsetenv("LLAMITA_KERNEL"); }
  ForcedKernels(const ForcedKernels&) = delete;
  ForcedKernels& operator=(const ForcedKernels&) = delete;
};

}  // namespace llamita::test
