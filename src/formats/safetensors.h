// safetensors: one file, or a folder's shards through model.safetensors.index.json. The rules of the
// reference reader: header at most 100 MB, extents tile the data exactly, shapes match extents, unknown
// dtypes are refused. BOOL is read as U8.
//
//   for (const safetensors::TensorInfo& tensor : safetensors::open_folder("SmolLM2-135M")) …
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/dtype.h"

namespace llamita::safetensors {

struct TensorInfo {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;              // row-major; rank 0 is a scalar
  std::span<const std::byte> data;         // any alignment: never cast, always copy
  std::shared_ptr<const MappedFile> file;  // keeps `data` alive; null after parse()
};

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

// The tensors of one .safetensors file, in the order of their data. Throws Error with path and reason.
std::vector<TensorInfo> open_file(const std::string& path);

// The same for a file in memory that outlives the result; `source` names it in errors.
std::vector<TensorInfo> parse(std::span<const std::byte> bytes, const std::string& source);

// The tensors of a model folder: model.safetensors, or the shards that model.safetensors.index.json names. A
// tensor that the index promises and its shard lacks is an Error that names both; so is a shard name with a
// path in it.
std::vector<TensorInfo> open_folder(const std::string& folder);

}  // namespace llamita::safetensors
