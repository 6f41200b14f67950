// The rows of the registry, each defined in its family's file.
#pragma once

#include "models/family.h"

namespace llamita {

extern const Family kLlama;
extern const Family kMistral;
extern const Family kQwen2;
extern const Family kQwen3;
extern const Family kGpt2;
extern const Family kLlava;

}  // namespace llamita
