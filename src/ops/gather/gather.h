// gather: rows of x by index: the tokens of a step whose logits are wanted.
#pragma once

#include "ops/op.h"

namespace llamita {

struct GatherArgs {
  Tensor x;     // (T, C) f32
  Tensor rows;  // (R) i32, each in [0, T)
  Tensor out;   // (R, C) f32
};

const Op<GatherArgs>& gather_op();
inline void gather(const GatherArgs& args, Context& context) { run(gather_op(), args, context); }

}  // namespace llamita
