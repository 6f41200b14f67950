#include "cli/model_card.h"

#include <filesystem>

#include "base/cat.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "models/model.h"

namespace llamita::cli {

namespace {

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

template <class TensorInfos>
void summarize(const TensorInfos& infos, ModelCard& card) {
  for (const auto& info : infos) {
    TensorSummary summary{info.name, info.dtype, info.shape, 1, static_cast<int64_t>(info.data.size())};
    for (const int64_t dim : info.shape) summary.elems *= dim;  // the parser has checked the product
    DTypeTotals& totals = card.totals[info.dtype];
    ++totals.tensors;
    totals.elems += summary.elems;
    totals.bytes += summary.bytes;
    card.parameters += summary.elems;
    card.file_bytes += summary.bytes;
    card.tensors.push_back(std::move(summary));
  }
}

}  // namespace

ModelCard read_model_card(const std::string& path) {
  ModelCard card;
  card.path = path;
  card.config = read_model_config(path);
  if (is_folder(path)) {
    card.format = "safetensors";
    summarize(safetensors::open_folder(path), card);
  } else {
    const gguf::File file = gguf::File::open(path);
    card.format = cat("GGUF v", file.version());
    summarize(file.tensors(), card);
  }
  return card;
}

}  // namespace llamita::cli
