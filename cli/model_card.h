// What the files of a model say about it, read without loading its weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "weights/model_config.h"

namespace llamita::cli {

struct TensorSummary {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;  // row-major
  int64_t elems = 0;
  int64_t bytes = 0;
};

struct DTypeTotals {
  int64_t tensors = 0, elems = 0, bytes = 0;
};

struct ModelCard {
  std::string path;
  std::string format;  // "GGUF v3" or "safetensors"
  ModelConfig config;
  std::vector<TensorSummary> tensors;
  std::map<DType, DTypeTotals> totals;
  int64_t parameters = 0;
  int64_t file_bytes = 0;  // of the tensors
};

// `path` is a model folder or a .gguf file. Throws Error.
ModelCard read_model_card(const std::string& path);

}  // namespace llamita::cli
