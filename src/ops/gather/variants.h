// The variants of gather that are not in gather.cc, whose table lists them.
#pragma once

#include "ops/gather/gather.h"

namespace llamita {

void gather_cuda(const GatherArgs& args, Context& context);

}  // namespace llamita
