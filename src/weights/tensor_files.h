// TensorFiles: the stored tensors of a model, from a folder of safetensors or a GGUF file, under one set of
// names: those of Hugging Face's checkpoints. Nothing is read here; data stays in the mapped files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "tensor/dtype.h"

namespace llamita {

struct StoredTensor {
  std::string name;  // as the file has it
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
  std::shared_ptr<const MappedFile> file;  // null when the data lies in memory of the caller's
};

class TensorFiles {
 public:
  // A folder with config.json and safetensors, or a .gguf file. Throws Error when neither is there.
  static TensorFiles open(const std::string& path);
  // A GGUF file that is open or, after gguf::File::parse, in memory that must outlive everything loaded from
  // it.
  static TensorFiles of(gguf::File file);

  // No tensors, only a config.json's content: a loader makes the weights up. `name` stands in messages.
  static TensorFiles made_up(Json config, std::string name);

  const std::string& path() const { return path_; }
  bool is_gguf() const { return gguf_ != nullptr; }
  const gguf::File& gguf() const { return *gguf_; }
  const Json& config() const { return config_; }  // config.json; null for GGUF
  bool is_made_up() const { return made_up_; }

  // The family name: general.architecture, or the first of config.json's architectures.
  const std::string& architecture() const { return architecture_; }

  // Files store Q and K rows so that rotary pairs are neighbours (GGUF conversion of Llama does that).
  bool rotary_pairs_adjacent() const { return is_gguf() && architecture_ == "llama"; }

  // The tensor with this Hugging Face name ("model.layers.0.mlp.up_proj.weight"); a checkpoint of the bare
  // model lacks the first component. nullptr when there is none.
  const StoredTensor* find(std::string_view name) const;
  // What find() looked for, for messages: "blk.0.ffn_up.weight" in a GGUF file.
  std::string stored_name(std::string_view name) const;

  // The Hugging Face names that begin so, of a folder's tensors.
  std::vector<std::string> names_below(std::string_view prefix) const;

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  int64_t total_bytes() const;

 private:
  void index();

  std::string path_;
  std::shared_ptr<const gguf::File> gguf_;
  Json config_;
  std::string architecture_;
  bool made_up_ = false;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace llamita
