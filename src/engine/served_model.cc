#include "engine/served_model.h"

#include <chrono>
#include <future>

#include "base/log.h"
#include "base/timer.h"
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
  info.takes_tools = encoder.has_chat_template() && encoder.takes_tools();
  info.image_tokens = model.config().vision ? model.config().vision->image_rows() : 0;
  info.template_error = encoder.template_error();
  return info;
}

int64_t milliseconds(double seconds) { return static_cast<int64_t>(1e3 * seconds + 0.5); }

}  // namespace

ServedModel::ServedModel(std::unique_ptr<Tokenizer> tokenizer_in, std::unique_ptr<Model> model_in,
                         const EngineConfig& config, std::unique_ptr<ImagePreparer> images_in)
    : tokenizer(std::move(tokenizer_in)),
      model(std::move(model_in)),
      images(std::move(images_in)),
      encoder(*tokenizer, images == nullptr ? std::string() : images->image_text(), config.template_bytes),
      engine(*model, *tokenizer, config),
      preparer(*tokenizer, encoder, engine, config, images.get()),
      info(describe(*model, engine, encoder)) {}

std::unique_ptr<ServedModel> ServedModel::load(const std::string& path, const EngineConfig& config,
                                               const LLM::Progress& progress) {
  const Stopwatch watch;
  const TensorFiles files = TensorFiles::open(path);
  // A large vocabulary takes as long to read as the weights of a small model: on a thread of its own, beside
  // the start of the GPU and the weights.
  std::future<std::unique_ptr<Tokenizer>> reading = std::async(std::launch::async, [&] {
    return files.is_gguf() ? Tokenizer::from_gguf(files.gguf()) : Tokenizer::from_folder(path);
  });
  std::unique_ptr<Tokenizer> tokenizer;
  // What contradicts the model is told before its weights are read.
  const auto vision = files.is_gguf() ? std::nullopt : read_model_config(path).vision;
  const ImageLimits limits{.pixels = config.image_pixels, .side = config.image_side};
  auto images = vision ? std::make_unique<ImagePreparer>(path, *vision, limits) : nullptr;
  const Placement placement = choose_placement(config);
  require_room(files, config, placement);
  const double prepared = watch.seconds();
  auto model = load_model(
      files,
      [&](int64_t done, int64_t total) {
        // A broken one ends the loading when it is noticed.
        if (tokenizer == nullptr && reading.wait_for(std::chrono::seconds(0)) == std::future_status::ready)
          tokenizer = reading.get();
        if (progress) progress(done, total);
      },
      placement, config.packed_cache);
  const double loaded = watch.seconds();
  if (tokenizer == nullptr) tokenizer = reading.get();
  const double read = watch.seconds();
  if (images != nullptr) images->require_token(*tokenizer);
  auto served =
      std::make_unique<ServedModel>(std::move(tokenizer), std::move(model), config, std::move(images));
  log_info("loaded ", served->info.name, " in ", milliseconds(watch.seconds()), " ms: device and room ",
           milliseconds(prepared), ", weights ", milliseconds(loaded - prepared), ", more for the tokenizer ",
           milliseconds(read - loaded), ", cache and plan ", milliseconds(watch.seconds() - read));
  return served;
}

}  // namespace llamita
