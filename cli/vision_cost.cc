#include "cli/vision_cost.h"

namespace llamita::cli {

VisionCost vision_cost(const ModelConfig& model) {
  if (!model.vision) return {};
  const VisionConfig& vision = *model.vision;
  const double C = vision.hidden, tokens = vision.tokens(), layers = vision.layers;
  const double matrices = layers * (4 * C * C + 2 * C * vision.ffn) + 3.0 * vision.patch * vision.patch * C;
  const double projector = C * model.hidden + static_cast<double>(model.hidden) * model.hidden;
  const double attention = 4 * layers * tokens * tokens * C;
  return {matrices + projector, 2 * tokens * (matrices + projector) + attention};
}

}  // namespace llamita::cli
