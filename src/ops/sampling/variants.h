// The variants of sampling, for the table in sampling.cc.
#pragma once

#include "ops/sampling/sampling.h"

namespace llamita {

void sampling_reference(const SamplingArgs& args, Context& context);

void sampling_cpu_select(const SamplingArgs& args, Context& context);
int64_t sampling_cpu_select_scratch(const SamplingArgs& args, const Caps& caps);

}  // namespace llamita
