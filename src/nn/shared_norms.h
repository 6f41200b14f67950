// SharedNorms: the norms of a block that the kernels on both sides of it share (ops/norm/prepared_norm.h).
// NormRelay (norm_relay.h) hands them from block to block.
#pragma once

#include "ops/norm/prepared_norm.h"

namespace llamita {

// Undefined members: the block norms x itself; nothing is prepared for the block that follows.
struct SharedNorms {
  PreparedNorm own;   // of x, by the block before
  PreparedNorm next;  // of the new x, for the block after; may lie where own does
  Tensor next_gain;   // (C), of that norm
};

}  // namespace llamita
