// ClipTower: CLIP's vision transformer (Radford et al. 2021, the ViT of Dosovitskiy et al. 2020): patches and
// a class token with learned positions, a norm before the first layer, pre-norm layers with full attention
// and QuickGELU. LLaVA reads the state before the last layer, so later layers and the norm behind them are
// not even loaded.
#pragma once

#include <vector>

#include "nn/attention.h"
#include "nn/mlp.h"
#include "weights/hf_config.h"
#include "weights/loader.h"

namespace llamita {

class ClipTower {
 public:
  // Takes the tower's weights ("vision_tower.…") from the loader.
  ClipTower(const VisionConfig& config, WeightLoader& weights);

  // Images (n, 3, S, S) f32 to the states (n tokens, C) f32 that `x` is; see Model::encode_images for batch.
  void forward(const Tensor& pixels, const ForwardBatch& batch, const Tensor& x, Context& context) const;

 private:
  struct Layer {
    Attention attention;
    Mlp mlp;
  };

  Layer load_layer(int index, WeightLoader& weights) const;

  VisionConfig config_;
  quant::Weight patches_;  // (C, K), K >= 3 p^2
  Vector class_row_;       // (C)
  Vector positions_;       // (tokens, C)
  Vector norm_, norm_bias_;
  std::vector<Layer> layers_;
};

// Sizes and switches of config.json's vision_config; `select` is the wanted state, as transformers counts
// hidden states: 0 before the first layer, negative from the end.
VisionConfig read_clip_config(const ConfigReader& config, int select);

}  // namespace llamita
