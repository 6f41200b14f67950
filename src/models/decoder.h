// Decoder: the pre-norm transformer that Llama made standard: RMSNorm, rotary grouped-query attention, gated
// feed-forward. Llama, Mistral, Qwen2 and Qwen3 are this with different switches in ModelConfig.
#pragma once

#include <vector>

#include "models/model.h"
#include "nn/attention.h"
#include "nn/head.h"
#include "nn/mlp.h"
#include "nn/rope.h"
#include "weights/loader.h"

namespace llamita {

class Decoder : public Model {
 public:
  // Takes every weight of the model from the loader.
  Decoder(ModelConfig config, WeightLoader& weights);

  Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const override;

 private:
  struct Layer {
    Attention attention;
    Mlp mlp;
  };

  // All layers as one op, or one after the other where no variant of it serves the step.
  void run_layers(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch, const KvCache& kv,
                  Context& context) const;
  void chain_layers(const Tensor& x, const Tensor& cos_sin, const ForwardBatch& batch, const KvCache& kv,
                    Context& context) const;
  Attention load_attention(int layer, WeightLoader& weights) const;
  Mlp load_mlp(int layer, WeightLoader& weights) const;

  Rope rope_;
  quant::Weight embedding_;  // (V, C)
  std::vector<Layer> layers_;
  Head head_;
};

}  // namespace llamita
