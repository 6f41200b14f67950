// Rope: the rotary embedding of a model, with every published frequency scaling: linear (position
// interpolation, Chen et al. 2023), dynamic (NTK-aware), llama3 (by wavelength), yarn (Peng et al. 2023), and
// GGUF's stored divisors.
#pragma once

#include <vector>

#include "ops/context.h"
#include "tensor/tensor.h"
#include "weights/loader.h"
#include "weights/model_config.h"

namespace llamita {

class Rope {
 public:
  // `max_positions` is the trained length, from which dynamic scaling starts.
  Rope(const RopeConfig& config, int max_positions);
  // The same with its tables where `weights` puts what kernels read.
  Rope(const RopeConfig& config, int max_positions, WeightLoader& weights);

  // cos and sin of a step's tokens, (T, R) f32 in the arena; positions (1, T) i32. Dynamic scaling gives each
  // token beyond the trained length the base of a text that ends with it, which is what decoding token by
  // token does, and keeps a token's rotation independent of how its prompt was cut.
  Tensor cos_sin(const Tensor& positions, Context& context) const;

  const std::vector<float>& inv_freq() const { return inv_freq_; }
  float scale() const { return scale_; }

 private:
  RopeConfig config_;
  int max_positions_;
  std::vector<float> tabulate(int positions) const;

  std::vector<float> inv_freq_;  // (R/2)
  Vector placed_inv_freq_;       // (1, R/2), where kernels read it; undefined: inv_freq_ itself
  Vector every_position_;        // (positions, R) of dynamic scaling on a GPU, else undefined
  float scale_ = 1;              // of cos and sin
};

}  // namespace llamita
