// The variants of sampling, for the table in sampling.cc.
#pragma once

#include "ops/sampling/device_sampling.h"
#include "ops/sampling/sampling.h"

namespace llamita {

void sampling_reference(const SamplingArgs& args, Context& context);

void sampling_cpu_select(const SamplingArgs& args, Context& context);
int64_t sampling_cpu_select_scratch(const SamplingArgs& args, const Caps& caps);

// On a GPU.
void device_sampling_cluster_select(const DeviceSamplingArgs& args, Context& context);
// sampling through device_sampling: parameters go up, tokens come back, and the host waits for them.
void sampling_cuda_round_trip(const SamplingArgs& args, Context& context);
int64_t sampling_cuda_round_trip_scratch(const SamplingArgs& args, const Caps& caps);

}  // namespace llamita
