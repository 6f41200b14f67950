// The variants of activation; the table in activation.cc lists them.
#pragma once

#include "ops/activation/activation.h"

namespace llamita {

void activation_reference(const ActivationArgs& args, Context& context);

}  // namespace llamita
