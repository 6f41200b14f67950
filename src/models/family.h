// Family: one row of the registry: which files a model family reads and how it is built.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "models/model.h"
#include "weights/hf_config.h"
#include "weights/loader.h"
#include "weights/tensor_files.h"

namespace llamita {

struct Family {
  std::string_view name;                            // "llama"
  std::span<const std::string_view> architectures;  // of config.json
  std::span<const std::string_view> gguf;           // general.architecture of GGUF files
  ModelConfig (*from_config)(const ConfigReader& config);
  ModelConfig (*from_gguf)(const TensorFiles& files);
  std::unique_ptr<Model> (*build)(ModelConfig config, WeightLoader& weights);
};

// Every family there is (models/registry.cc).
std::span<const Family* const> families();

// The build of every family that is a Decoder.
std::unique_ptr<Model> build_decoder(ModelConfig config, WeightLoader& weights);

}  // namespace llamita
