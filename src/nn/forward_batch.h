// ForwardBatch: everything a model's forward() is told about one step. A decode token is a chunk of length 1,
// a prompt or a part of one a longer chunk; sequences at any stage share a step.
#pragma once

#include "ops/attention/plan.h"
#include "quant/kv_format.h"
#include "tensor/tensor.h"

#include <vector>

namespace llamita {

struct ForwardBatch {
  Tensor token_ids;     // (T) i32; negative: the row comes from input_rows
  Tensor chosen;        // (R') i32 or undefined: tokens of the step before, for
  Tensor token_source;  // (T) i32 or undefined: a row of them in place of a token, or -1; token_ids gets it
  Tensor positions;     // (P, T) i32; P is 1, or 3 for models with spatial positions
  Tensor input_rows;    // (n, C) f32 or undefined: embeddings in place of tokens (images)
  Tensor kv_slot;       // (T) i64: page * kPageTokens + offset
  Tensor q_start;       // (B+1) i32: first token of each sequence, and T
  Tensor kv_len;        // (B) i32: keys of each sequence, this step's included
  Tensor block_table;   // (B, max_blocks) i32
  Tensor logit_rows;    // (R) i32, ascending: tokens whose logits are wanted
  const AttentionPlan* plan = nullptr;
  // When set (layers+1 of them, (T, C) f32), the residual stream is copied out: the embedding, then after
  // each layer; the last one is taken after the final norm, as Hugging Face's hidden_states has it.
  // Undefined ones, the last excepted, are left out.
  std::vector<Tensor>* hidden_out = nullptr;
};

// The cache's tensors, one pair a layer, (pages, Hkv, kPageTokens, D). The engine owns them.
struct KvCache {
  struct Layer {
    Tensor k, v;
  };
  KvFormat format;
  std::vector<Layer> layers;
};

}  // namespace llamita
