// The variants of linear; the table in linear.cc lists them.
#pragma once

#include "ops/linear/linear.h"

namespace llamita {

void linear_reference(const LinearArgs& args, Context& context);

}  // namespace llamita
