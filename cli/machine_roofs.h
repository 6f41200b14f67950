// The two limits of a CPU that inference runs into, measured: memory read bandwidth (decode) and f32
// multiply-adds (prefill; integer and bf16 dot products can exceed it).
#pragma once

#include "base/thread_pool.h"

namespace llamita::cli {

struct MachineRoofs {
  double read_bytes_per_second = 0;
  double fma_flops_per_second = 0;
};

// Takes about half a second and, for a moment, up to 512 MB.
MachineRoofs measure_roofs(ThreadPool& pool);

}  // namespace llamita::cli
