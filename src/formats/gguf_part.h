// One GGUF file into a File: the inside of gguf.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <unordered_set>

#include "base/reader.h"
#include "formats/gguf.h"

namespace llamita::gguf {

class PartReader {
 public:
  // `bytes` is all of the file; `file`, if any, is what keeps them alive.
  PartReader(std::span<const std::byte> bytes, const std::string& source,
             std::shared_ptr<const MappedFile> file);

  File read();

 private:
  // A tensor's place, relative to the data section, which begins after the last tensor's description.
  struct Extent {
    uint64_t begin;
    uint64_t bytes;
  };

  void read_header();
  void read_key_value();
  void read_tensor();
  void place_tensors();
  void refuse_overlaps() const;

  std::string read_string(std::string_view what, uint64_t limit);
  Value read_value(uint32_t type, const std::string& key);
  Value read_array(const std::string& key);
  template <class Number, class Element>
  std::vector<Element> read_numbers(uint64_t count);
  int64_t read_integer(uint32_t type, const std::string& key);
  bool read_bool(const std::string& key);
  DType read_tensor_type(const std::string& name);
  std::vector<int64_t> read_shape(const std::string& name);
  uint64_t tensor_bytes(const TensorInfo& tensor) const;

  std::span<const std::byte> bytes_;
  Reader reader_;
  std::shared_ptr<const MappedFile> mapped_;
  File out_;
  uint64_t tensor_count_ = 0;
  uint64_t key_count_ = 0;
  uint64_t alignment_ = 32;
  std::unordered_set<std::string> tensor_names_;
  std::vector<Extent> extents_;  // of each tensor
};

}  // namespace llamita::gguf
