// What the CPU variants of all ops share: when they are supported, and how rows are cut for the threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/context.h"

namespace llamita {

template <class Args>
bool on_cpu(const Args&, const Caps& caps) {
  return caps.device == DeviceKind::cpu;
}

// Items a thread takes at once, when one costs about `operations` scalar operations: some microseconds of
// work, against the 0.1 us that taking it costs. From the shape alone, so that borders never depend on
// threads.
inline int64_t grain_for(int64_t operations) {
  constexpr int64_t kOperationsPerChunk = 16384;
  return std::max<int64_t>(kOperationsPerChunk / std::max<int64_t>(operations, 1), 1);
}

}  // namespace llamita
