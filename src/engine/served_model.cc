#include "engine/served_model.h"

#include "engine/compute_device.h"

namespace llamita {

namespace {

ModelInfo describe(const Model& model, const Engine& engine, const PromptEncoder& encoder) {
  ModelInfo info;
  info.name = model.config().name;
  info.family = model.config().family;
  info.parameters = model.parameters();
  info.weight_bytes = model.weight_bytes();
  info.kv_bytes = engine.memory_plan().kv_bytes;
  info.context = engine.context();
  info.vocab_size = model.config().vocab;
  info.has_chat_template = encoder.has_chat_template();
  info.image_tokens = model.config().vision ? model.config().vision->image_rows() : 0;
  info.template_error = encoder.template_error();
  return info;
}

}  // namespace

ServedModel::ServedModel(std::unique_ptr<Tokenizer> tokenizer_in, std::unique_ptr<Model> model_in,
                         const EngineConfig& config, std::unique_ptr<ImagePreparer> images_in)
    : tokenizer(std::move(tokenizer_in)),
      model(std::move(model_in)),
      images(std::move(images_in)),
      encoder(*tokenizer, images == nullptr ? std::string() : images->image_text()),
      engine(*model, *tokenizer, config),
      preparer(*tokenizer, encoder, engine, images.get()),
      info(describe(*model, engine, encoder)) {}

std::unique_ptr<ServedModel> ServedModel::load(const std::string& path, const EngineConfig& config,
                                               const LLM::Progress& progress) {
  const Placement placement = choose_placement(config);
  const TensorFiles files = TensorFiles::open(path);
  require_room(files, config, placement);
  auto tokenizer = files.is_gguf() ? Tokenizer::from_gguf(files.gguf()) : Tokenizer::from_folder(path);
  auto model = load_model(files, progress, placement);
  const auto& vision = model->config().vision;
  auto images = vision ? std::make_unique<ImagePreparer>(path, *vision) : nullptr;
  return std::make_unique<ServedModel>(std::move(tokenizer), std::move(model), config, std::move(images));
}

}  // namespace llamita
