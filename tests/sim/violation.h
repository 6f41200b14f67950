// What a simulation throws when a promise is broken.
#pragma once

#include <stdexcept>

#include "base/cat.h"

namespace llamita::sim {

struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
void require(bool kept, const Parts&... parts) {
  if (!kept) throw Violation(cat(parts...));
}

}  // namespace llamita::sim
