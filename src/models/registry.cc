#include <algorithm>
#include <optional>

#include "base/cat.h"
#include "base/log.h"
#include "models/decoder.h"
#include "models/families.h"
#include "weights/packed_cache.h"

namespace llamita {

namespace {

constexpr const Family* kFamilies[] = {&kLlama, &kMistral, &kQwen2, &kQwen3, &kGpt2, &kLlava};

const Family& family_of(const TensorFiles& files) {
  std::string known;
  for (const Family* family : kFamilies) {
    const auto names = files.is_gguf() ? family->gguf : family->architectures;
    if (std::find(names.begin(), names.end(), files.architecture()) != names.end()) return *family;
    for (const std::string_view name : names) known += cat(known.empty() ? "" : ", ", name);
  }
  throw Error(cat(files.path(), ": unknown architecture ", files.architecture(), ", known are ", known));
}

ModelConfig configure(const Family& family, const TensorFiles& files) {
  ModelConfig config;
  if (files.is_gguf()) {
    config = family.from_gguf(files);
  } else {
    const ConfigReader reader(files.config(), files.path() + "/config.json");
    config = family.from_config(reader);
    read_special_tokens(reader, files.path(), config);
  }
  config.family = family.name;
  if (config.name.empty()) {
    const std::string trimmed = files.path().substr(0, files.path().find_last_not_of('/') + 1);
    config.name = trimmed.substr(trimmed.rfind('/') + 1);
  }
  if (config.heads % config.kv_heads != 0) {
    throw Error(
        cat(files.path(), ": ", config.heads, " heads are no multiple of ", config.kv_heads, " KV heads"));
  }
  return config;
}

std::unique_ptr<Model> build(const TensorFiles& files, WeightLoader& weights) {
  const Family& family = family_of(files);
  std::unique_ptr<Model> model = family.build(configure(family, files), weights);
  weights.skip("rope_freqs.weight");  // read with the configuration
  weights.finish();
  return model;
}

}  // namespace

void Model::encode_images(const Tensor&, const ForwardBatch&, const Tensor&, Context&) const {
  LLAMITA_CHECK(false, config_.family, " takes no images");
}

std::span<const Family* const> families() { return kFamilies; }

std::unique_ptr<Model> build_decoder(ModelConfig config, WeightLoader& weights) {
  return std::make_unique<Decoder>(std::move(config), weights);
}

std::unique_ptr<Model> load_model(const std::string& path,
                                  const std::function<void(int64_t, int64_t)>& progress,
                                  const Placement& placement, const std::string& packed_folder) {
  return load_model(TensorFiles::open(path), progress, placement, packed_folder);
}

std::unique_ptr<Model> load_model(const TensorFiles& files,
                                  const std::function<void(int64_t, int64_t)>& progress,
                                  const Placement& placement, const std::string& packed_folder) {
  const auto finished = [&](std::unique_ptr<Model> model, const WeightLoader& weights) {
    model->parameters_ = weights.parameters();
    model->weight_bytes_ = weights.bytes();
    model->placement_ = placement;
    return model;
  };
  if (!placement.on_gpu()) {
    std::optional<PackedCache> cache;
    if (!packed_folder.empty()) cache.emplace(packed_folder, files, placement.layout);
    WeightLoader weights(files, progress, placement, cache ? &*cache : nullptr);
    std::unique_ptr<Model> model = build(files, weights);
    if (cache) cache->save();
    return finished(std::move(model), weights);
  }
  if (!packed_folder.empty())
    log_warning(
        "packed weights are kept for the CPU only: on a GPU weights are copied from the model's files");
  WeightLoader counted = WeightLoader::measuring(files, placement);
  build(files, counted);
  DeviceWeights device(placement.device, static_cast<size_t>(counted.device_bytes()));
  WeightLoader weights(files, placement, device);
  std::unique_ptr<Model> model = build(files, weights);
  device.finish([&](int64_t done) {
    if (progress) progress(std::min(done, weights.bytes()), weights.bytes());
  });
  return finished(std::move(model), weights);
}

ModelSize measure_model(const TensorFiles& files, const Placement& placement) {
  WeightLoader weights = WeightLoader::measuring(files, placement);
  const std::unique_ptr<Model> model = build(files, weights);
  return {model->config(), weights.bytes(), weights.copied_bytes()};
}

std::vector<StoredTensor> made_up_tensors(const TensorFiles& files) {
  LLAMITA_CHECK(files.is_made_up(), files.path(), " has tensors of its own");
  WeightLoader weights = WeightLoader::measuring(files);
  build(files, weights);
  return {weights.invented().begin(), weights.invented().end()};
}

ModelConfig read_model_config(const std::string& path) {
  const TensorFiles files = TensorFiles::open(path);
  return configure(family_of(files), files);
}

}  // namespace llamita
