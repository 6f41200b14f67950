// What an image costs a model that takes images, at the least: the weights and products of tower and
// projector.
#pragma once

#include "weights/model_config.h"

namespace llamita::cli {

struct VisionCost {
  double parameters = 0;  // of tower and projector
  double flops = 0;       // of an image, attention included
};

// All zero for a model that takes none.
VisionCost vision_cost(const ModelConfig& model);

}  // namespace llamita::cli
