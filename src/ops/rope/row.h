// rope of one head of one token on the CPU, for fused ops: the bits of rope.
#pragma once

#include <cstdint>

namespace llamita {

// In place: elements i and i + pairs of x. cos_sin: `pairs` cosines, then as many sines.
void rope_head(float* x, const float* cos_sin, int64_t pairs);

}  // namespace llamita
