// Which device a model runs on, and what ops and the memory plan are told about it.
#pragma once

#include <cstdint>
#include <optional>

#include "analysis/memory_plan.h"
#include "base/thread_pool.h"
#include "llamita/engine_config.h"
#include "ops/context.h"
#include "weights/placement.h"

namespace llamita {

// The CPU, with matrices of blocks as this machine's kernels want them.
Placement cpu_placement();

// The device that config.device names: "cpu", "cuda" (the first GPU), "cuda:N", or "auto": the first GPU that
// kernels run on, else the CPU. Throws Error naming what is missing, or what LLAMITA_KERNEL has that does not
// exist.
Placement choose_placement(const EngineConfig& config);

// What kernels may rely on there: the instruction set and the pool's threads, or the card's architecture.
Caps caps_of(const Placement& placement, const ThreadPool& pool);

// Bytes that the device could still give; nothing when the system does not say.
std::optional<int64_t> available_memory_of(const Placement& placement);

// What can be refused in a moment is refused before gigabytes of weights are read. Throws Error with the
// numbers when weights, cache and a step's memory do not fit.
void require_room(const TensorFiles& files, const EngineConfig& config, const Placement& placement);

// The plan for steps of a loaded model on the device where its weights are (analysis/memory_plan.h).
MemoryPlan plan_steps(const Model& model, const EngineConfig& config, int32_t vocab_limit,
                      const ThreadPool& pool);

}  // namespace llamita
