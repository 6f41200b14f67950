// Head: logits of the wanted tokens: norm(x[rows]) · W.
#pragma once

#include "nn/forward_batch.h"
#include "ops/context.h"
#include "ops/norm/norm.h"
#include "quant/weight.h"
#include "weights/loader.h"

namespace llamita {

struct Head {
  NormKind norm_kind = NormKind::rms;
  float norm_eps = 0;
  Vector norm, norm_bias;  // (C)
  quant::Weight weight;    // (V, C); a tied head shares the embedding's storage

  // x (T, C) to logits (R, V), written to `logits`.
  void write(const Tensor& x, const Tensor& rows, const Tensor& logits, Context& context) const;
  // The whole residual stream after the final norm, for those who asked for hidden states.
  void normalise(const Tensor& x, const Tensor& out, Context& context) const;
};

// Copies the residual stream to batch.hidden_out[index], when hidden states are wanted.
void keep_hidden(const Tensor& x, const ForwardBatch& batch, int index, const Context& context);

}  // namespace llamita
