// embedding: rows of a table by token id, decoded from any weight format; input_rows replace the rows of
// tokens whose id is negative: the n-th such token takes row n (image embeddings).
#pragma once

#include "ops/op.h"
#include "quant/weight.h"

namespace llamita {

struct EmbeddingArgs {
  Tensor token_ids;                      // (T) i32
  const quant::Weight* table = nullptr;  // (V, C)
  Tensor input_rows;                     // (n, C) f32 or undefined
  Tensor positions;                      // (T) i32 or undefined: learned positions, with position_table
  const quant::Weight* position_table = nullptr;  // (P, C), added; GPT-2
  Tensor out;                                     // (T, C) f32
};

const Op<EmbeddingArgs>& embedding_op();
inline void embedding(const EmbeddingArgs& args, Context& context) { run(embedding_op(), args, context); }

}  // namespace llamita
