// The variants of rope_table and rope; the tables in rope.cc list them.
#pragma once

#include "ops/rope/rope.h"

namespace llamita {

void rope_table_reference(const RopeTableArgs& args, Context& context);
void rope_reference(const RopeArgs& args, Context& context);
void rope_table_cuda(const RopeTableArgs& args, Context& context);
void rope_cuda(const RopeArgs& args, Context& context);

}  // namespace llamita
