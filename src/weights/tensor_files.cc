#include "weights/tensor_files.h"

#include <filesystem>

#include "base/cat.h"
#include "formats/safetensors.h"
#include "llamita/error.h"
#include "weights/name_map.h"

namespace llamita {

namespace {

std::string first_architecture(const Json& config, const std::string& file) {
  const Json* list = config.find("architectures");
  if (list != nullptr && list->is_array() && !list->as_array(file).empty()) {
    return list->as_array(file).front().as_string(cat(file, ": architectures"));
  }
  if (const Json* type = config.find("model_type")) return type->as_string(cat(file, ": model_type"));
  throw Error(cat(file, " names no architecture: expected \"architectures\" or \"model_type\""));
}

}  // namespace

TensorFiles TensorFiles::open(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return of(gguf::File::open(path));
  TensorFiles files;
  files.path_ = path;
  const std::string config = path + "/config.json";
  if (!std::filesystem::exists(config, ignored)) {
    throw Error(cat(path, " is no model folder: it has no config.json"));
  }
  files.config_ = Json::parse_file(config);
  files.architecture_ = first_architecture(files.config_, config);
  for (auto& tensor : safetensors::open_folder(path)) {
    files.tensors_.push_back(
        {std::move(tensor.name), tensor.dtype, std::move(tensor.shape), tensor.data, tensor.file});
  }
  files.index();
  return files;
}

TensorFiles TensorFiles::of(gguf::File file) {
  TensorFiles files;
  files.path_ = file.path();
  const std::string* architecture = file.get_string("general.architecture");
  if (architecture == nullptr) throw Error(cat(file.path(), " lacks the key general.architecture"));
  files.architecture_ = *architecture;
  for (const auto& tensor : file.tensors()) {
    files.tensors_.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.data, tensor.file});
  }
  files.gguf_ = std::make_shared<const gguf::File>(std::move(file));
  files.index();
  return files;
}

TensorFiles TensorFiles::made_up(Json config, std::string name) {
  TensorFiles files;
  files.path_ = std::move(name);
  files.config_ = std::move(config);
  files.architecture_ = first_architecture(files.config_, files.path_);
  files.made_up_ = true;
  return files;
}

void TensorFiles::index() {
  by_name_.reserve(tensors_.size());
  const bool llava = architecture_ == "LlavaForConditionalGeneration";
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const std::string& name = tensors_[i].name;
    if (!by_name_.emplace(llava ? llava_name(name) : name, i).second)
      throw Error(cat(path_, " has two tensors ", tensors_[i].name));
  }
}

std::string TensorFiles::stored_name(std::string_view name) const {
  return is_gguf() ? gguf_name(name) : std::string(name);
}

const StoredTensor* TensorFiles::find(std::string_view name) const {
  auto at = by_name_.find(stored_name(name));
  if (at == by_name_.end() && !is_gguf()) at = by_name_.find(std::string(name.substr(name.find('.') + 1)));
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

std::vector<std::string> TensorFiles::names_below(std::string_view prefix) const {
  std::vector<std::string> names;
  for (const auto& [name, index] : by_name_) {
    if (name.starts_with(prefix)) names.push_back(name);
  }
  return names;
}

int64_t TensorFiles::total_bytes() const {
  int64_t total = 0;
  for (const StoredTensor& tensor : tensors_) total += static_cast<int64_t>(tensor.data.size());
  return total;
}

}  // namespace llamita
