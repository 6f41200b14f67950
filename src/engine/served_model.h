// ServedModel: a loaded model with everything that answering takes, for the two public faces: LLM and
// AsyncEngine.
#pragma once

#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/image_preparer.h"
#include "engine/prompt_encoder.h"
#include "engine/request_preparer.h"
#include "models/model.h"

namespace llamita {

struct ServedModel {
  ServedModel(std::unique_ptr<Tokenizer> tokenizer, std::unique_ptr<Model> model, const EngineConfig& config,
              std::unique_ptr<ImagePreparer> images = nullptr);
  // See LLM::load.
  static std::unique_ptr<ServedModel> load(const std::string& path, const EngineConfig& config,
                                           const LLM::Progress& progress);

  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<ImagePreparer> images;  // of models that take images
  PromptEncoder encoder;
  Engine engine;
  RequestPreparer preparer;
  ModelInfo info;
};

}  // namespace llamita
