// embedding: rows of a table by token id, decoded from any weight format; input_rows replace the rows of
// tokens whose id is negative: the n-th such token takes row n (image embeddings). What the step before chose
// becomes input where it lies: no token goes to the host and back before the next step can run.
#pragma once

#include "ops/op.h"
#include "quant/weight.h"

namespace llamita {

struct EmbeddingArgs {
  Tensor token_ids;                      // (T) i32; with token_source changed where there is a source
  const quant::Weight* table = nullptr;  // (V, C)
  Tensor input_rows;                     // (n, C) f32 or undefined
  Tensor positions;                      // (T) i32 or undefined: learned positions, with position_table
  const quant::Weight* position_table = nullptr;  // (P, C), added; GPT-2
  // (R) i32 and (T) i32, or both undefined: tokens of the step before, and which row of them a token is, or
  // -1 where it is known. A broken row's -1 becomes token 0.
  Tensor chosen, token_source;
  Tensor out;  // (T, C) f32
};

const Op<EmbeddingArgs>& embedding_op();
inline void embedding(const EmbeddingArgs& args, Context& context) { run(embedding_op(), args, context); }

}  // namespace llamita
