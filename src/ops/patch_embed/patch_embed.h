// patch_embed: images cut into patches (Dosovitskiy et al. 2020). A convolution whose stride is its width is
// a matrix product of one row a patch, so all that is left to do is to lay those rows out, and beside them
// what the product is added to:
//   patches  row i(1+P) is zero (class token), the P rows behind it are image i's patches in reading order,
//            each (3, p, p) and then zeros up to K
//   x        the class token's embedding in row i(1+P), zero elsewhere, plus the row's position embedding
// so that linear(patches, residual x) gives the tower's input. Copies and one sum: exact on every device but
// for the rounding to the dtype of `patches`.
#pragma once

#include "ops/op.h"

namespace llamita {

struct PatchEmbedArgs {
  Tensor pixels;      // (n, 3, S, S) f32
  Tensor class_row;   // (C) f32
  Tensor positions;   // (1+P, C) f32, P = (S / patch)^2
  int64_t patch = 0;  // p; S is a multiple of it
  Tensor patches;     // (n(1+P), K) out, K >= 3 p^2: f32, on a GPU also bf16 or f16
  Tensor x;           // (n(1+P), C) f32 out
};

const Op<PatchEmbedArgs>& patch_embed_op();
inline void patch_embed(const PatchEmbedArgs& args, Context& context) {
  run(patch_embed_op(), args, context);
}

}  // namespace llamita
