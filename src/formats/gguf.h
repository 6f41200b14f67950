// GGUF version 2 and 3, single and split files, as they are: key-values and tensors, nothing of models. Every
// count and extent is checked against the bytes that are there before anything is allocated or touched.
//
//   const gguf::File file = gguf::File::open("model.gguf");
//   const auto layers = file.get_int("llama.block_count");
//   for (const gguf::TensorInfo& tensor : file.tensors()) …   // tensor.data lies in the mapped file
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/dtype.h"

namespace llamita::gguf {

// A key's value. All integer types become int64 (a u64 above 2^63-1 is an error), both floats double. Arrays
// are homogeneous; nested arrays are refused.
using Value = std::variant<bool, int64_t, double, std::string, std::vector<bool>, std::vector<int64_t>,
                           std::vector<double>, std::vector<std::string>>;

// What a file may ask for. Beyond is an Error that names the limit.
struct Limits {
  static constexpr uint64_t kKeyBytes = 65535;
  static constexpr uint64_t kStringBytes = uint64_t{1} << 20;
  static constexpr uint64_t kArrayElements = uint64_t{1} << 24;
  static constexpr uint64_t kKeys = 65536;
  static constexpr uint64_t kTensors = 65536;
  static constexpr uint32_t kDimensions = 4;
  static constexpr int64_t kAlignment = 4096;
};

struct TensorInfo {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;              // row-major: the contiguous dimension last (the file has it first)
  std::span<const std::byte> data;         // inside the mapping of its file
  std::shared_ptr<const MappedFile> file;  // keeps `data` alive; null after File::parse
};

class File {
 public:
  // Opens a .gguf file; of a split model any part, the others are found beside it. Throws Error with path and
  // offset for anything malformed, truncated, duplicated, out of bounds or of an unknown tensor type.
  // No two tensors may share bytes, so the tensors are never larger than the files.
  static File open(const std::string& path);

  // One part from memory that outlives the File; `source` names it in errors. Nothing is looked for beside
  // it.
  static File parse(std::span<const std::byte> bytes, const std::string& source);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }

  // nullptr when the key is absent.
  const Value* find(std::string_view key) const;
  // Typed access: nothing when absent; Error naming path and key when present with another type.
  std::optional<int64_t> get_int(std::string_view key) const;
  std::optional<double> get_double(std::string_view key) const;  // takes integers too
  std::optional<bool> get_bool(std::string_view key) const;
  const std::string* get_string(std::string_view key) const;
  const std::vector<std::string>* get_strings(std::string_view key) const;
  const std::vector<int64_t>* get_ints(std::string_view key) const;
  const std::vector<double>* get_doubles(std::string_view key) const;
  // Keys in file order, for display.
  const std::vector<std::string>& keys() const { return keys_; }

  // Tensors in file order, over all parts of a split model.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

 private:
  friend class PartReader;
  static File open_part(const std::string& path);
  void join_parts(const std::string& path, int64_t count);

  std::string path_;
  uint32_t version_ = 0;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, Value> values_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace llamita::gguf
