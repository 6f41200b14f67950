// rope: rotary position embedding (Su et al. 2021) in the half-split form: element i of a head is rotated
// with element i + R/2, where R is the number of rotated elements (the rest pass through). rope_table
// computes cos and sin once a step for all layers; rope applies them in place.
#pragma once

#include "ops/op.h"

namespace llamita {

struct RopeTableArgs {
  Tensor positions;  // (T) i32
  Tensor inv_freq;   // (R/2) f32: angle of pair i at position p is p * inv_freq[i], rounded to f32
  float scale = 1;   // multiplies cos and sin (YaRN's attention factor)
  Tensor out;        // (T, R) f32: R/2 cosines, then R/2 sines
};

const Op<RopeTableArgs>& rope_table_op();
inline void rope_table(const RopeTableArgs& args, Context& context) { run(rope_table_op(), args, context); }

struct RopeArgs {
  Tensor x;  // (T, H, D) f32, on a GPU also bf16 or f16, in place; tokens may be strided, heads are dense
  Tensor cos_sin;  // (T, R) f32, R <= D
};

const Op<RopeArgs>& rope_op();
inline void rope(const RopeArgs& args, Context& context) { run(rope_op(), args, context); }

}  // namespace llamita
