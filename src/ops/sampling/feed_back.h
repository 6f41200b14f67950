// feed_back: what the step before chose becomes input of this one, where it lies: no token goes to the host
// and back before the next step can run. The first op of such a step, on a device that runs by itself.
#pragma once

#include "ops/op.h"

namespace llamita {

struct FeedBackArgs {
  Tensor chosen;     // (R) i32: device_sampling's tokens of the step before
  Tensor source;     // (T) i32: a row of `chosen`, or -1 where the token is known
  Tensor token_ids;  // (T) i32, changed where there is a source; a broken row's -1 becomes token 0
};

const Op<FeedBackArgs>& feed_back_op();
inline void feed_back(const FeedBackArgs& args, Context& context) { run(feed_back_op(), args, context); }

}  // namespace llamita
