// Mistral (Jiang et al. 2023): Llama whose layers see a sliding window of keys. Its GGUF files say "llama".
#include "models/families.h"
#include "weights/limits.h"

namespace llamita {

namespace {

constexpr std::string_view kArchitectures[] = {"MistralForCausalLM"};

ModelConfig from_config(const ConfigReader& config) {
  ModelConfig model = read_llama_like_config(config);
  model.sliding_window = config.get_int("sliding_window", 1, limits::kMaxPositions, 0);
  return model;
}

}  // namespace

const Family kMistral{"mistral", kArchitectures, {}, from_config, nullptr, build_decoder};

}  // namespace llamita
