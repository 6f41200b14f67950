#pragma once

#include "weights/hf_config.h"
#include "weights/limits.h"

namespace llamita {

// Qwen's sliding window: off unless use_sliding_window, then on the layers that layer_types names, or in
// older files on those from max_window_layers on.
inline void read_qwen_window(const ConfigReader& config, ModelConfig& model) {
  if (!config.get_bool("use_sliding_window", false)) return;
  model.sliding_window = config.get_int("sliding_window", 1, limits::kMaxPositions, 0);
  const int first = config.get_int("max_window_layers", 0, limits::kLayers, model.layers);
  for (int i = 0; i < model.layers; ++i) model.layer_is_sliding.push_back(i >= first);
  const Json* types = config.find("layer_types");
  if (types == nullptr) return;
  const Json::Array& list = types->as_array(config.what("layer_types"));
  if (list.size() != static_cast<size_t>(model.layers)) config.fail("layer_types has not one entry a layer");
  for (size_t i = 0; i < list.size(); ++i) {
    model.layer_is_sliding[i] = list[i].as_string(config.what("layer_types")) == "sliding_attention";
  }
}

}  // namespace llamita
