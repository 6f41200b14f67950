// SharedNorms: the norms of a block that the kernels on both sides of it share (ops/norm/prepared_norm.h).
// NormRelay hands them from block to block.
#pragma once

#include "ops/norm/prepared_norm.h"

namespace llamita {

// Undefined members: the block norms x itself; nothing is prepared for the block that follows.
struct SharedNorms {
  PreparedNorm own;   // of x, by the block before
  PreparedNorm next;  // of the new x, for the block after; may lie where own does
  Tensor next_gain;   // (C), of that norm
};

class NormRelay {
 public:
  // Of x (T, C), which every block adds to. Borrows the context and takes from its arena.
  NormRelay(const Tensor& x, Context& context)
      : x_(x), context_(context), shape_(prepared_norm_shape(x, context.caps())) {}

  // To ask two neighbours whether they would share the norm with this gain: shapes alone.
  SharedNorms between(const Tensor& next_gain) const {
    return {.own = shape_, .next = shape_, .next_gain = next_gain};
  }
  // The norms of the block whose turn it is; `shares`: it and the next one share the norm with this gain.
  SharedNorms pass(bool shares, const Tensor& next_gain) {
    SharedNorms norms{.own = own_, .next = {}, .next_gain = {}};
    if (shares) {
      if (!room_.defined()) room_ = take_prepared_norm(x_, context_);
      norms.next = room_;
      norms.next_gain = next_gain;
    }
    own_ = norms.next;
    return norms;
  }

 private:
  Tensor x_;
  Context& context_;
  PreparedNorm shape_;
  PreparedNorm room_;  // of every norm that is shared: it is read before the next is prepared
  PreparedNorm own_;   // of the block whose turn comes
};

}  // namespace llamita
