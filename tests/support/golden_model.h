// The tiny checkpoints of tests/golden/models and what transformers computed with them.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace llamita::test {

inline std::string golden_model(const std::string& name) {
  return std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/models/" + name;
}

inline constexpr const char* kGoldenModels[] = {
    "llama",   "llama-tied-bias", "llama-linear", "llama-dynamic", "llama-llama3", "llama-yarn",
    "mistral", "qwen2",           "qwen2-window", "qwen3",         "gpt2"};

struct Golden {
  std::vector<int32_t> ids;                // (T)
  std::vector<float> logits;               // (T, V)
  std::vector<std::vector<float>> hidden;  // (L+1) of (T, C); the last after the final norm
};

// Prompt 0 (48 tokens) or 1 (7 tokens).
inline Golden read_golden(const std::string& model, int prompt) {
  Golden golden;
  const std::string suffix = "." + std::to_string(prompt);
  for (const auto& tensor : safetensors::open_file(golden_model(model) + "/golden.safetensors")) {
    const size_t n = tensor.data.size() / 4;
    if (tensor.name == "ids" + suffix) {
      golden.ids.resize(n);
      std::memcpy(golden.ids.data(), tensor.data.data(), n * 4);
    } else if (tensor.name == "logits" + suffix) {
      golden.logits.resize(n);
      std::memcpy(golden.logits.data(), tensor.data.data(), n * 4);
    } else if (tensor.name == "hidden" + suffix) {
      const size_t layers = static_cast<size_t>(tensor.shape[0]);
      golden.hidden.assign(layers, std::vector<float>(n / layers));
      for (size_t i = 0; i < layers; ++i) {
        std::memcpy(golden.hidden[i].data(), tensor.data.data() + i * n / layers * 4, n / layers * 4);
      }
    }
  }
  return golden;
}

}  // namespace llamita::test
