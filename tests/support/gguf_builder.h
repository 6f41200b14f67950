// Writes GGUF files for tests.
//
//   const std::string bytes = GgufBuilder()
//                                 .kv("general.architecture", "llama")
//                                 .kv("llama.block_count", uint32_t{2})
//                                 .kv("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"})
//                                 .tensor("output.weight", DType::q4_0, {4, 32}, packed)  // row-major shape
//                                 .build();
//   const std::string path = dir.write("model.gguf", bytes);
//
// The *_raw calls and version() write what no honest file has.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/cat.h"
#include "tensor/dtype.h"

namespace llamita::test {

class GgufBuilder {
 public:
  // A u32 or u64 of the file that is a count, length, type, dimension or offset.
  struct Field {
    size_t offset;
    size_t bytes;
  };

  GgufBuilder& version(uint32_t version) {
    version_ = version;
    return *this;
  }

  // Sets the alignment and writes its key.
  GgufBuilder& alignment(uint32_t alignment) {
    alignment_ = alignment;
    return kv("general.alignment", alignment);
  }

  // A key of any arithmetic type, bool, text, or a vector of one of these.
  template <class T>
  GgufBuilder& kv(std::string_view key, const T& value) {
    put_text(keys_, key);
    if constexpr (std::convertible_to<T, std::string_view>) {
      put_field<uint32_t>(keys_, kString);
      put_text(keys_, value);
    } else if constexpr (std::is_arithmetic_v<T>) {
      put_field<uint32_t>(keys_, type_id<T>());
      put(keys_, value);
    } else {
      put_array(value);
    }
    ++key_count_;
    return *this;
  }

  // A key with any type id and any bytes after it.
  GgufBuilder& kv_raw(std::string_view key, uint32_t type, std::string_view value) {
    put_text(keys_, key);
    put_field(keys_, type);
    keys_.bytes.append(value);
    ++key_count_;
    return *this;
  }

  // `data` holds the tensor's bytes; without it they are zeros. The shape is row-major, contiguous last.
  GgufBuilder& tensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                      std::optional<std::string> data = {}) {
    int64_t bytes = info(dtype).block_bytes;
    for (const int64_t size : shape) bytes *= size;
    bytes /= info(dtype).block_elems;
    data_.resize((data_.size() + alignment_ - 1) / alignment_ * alignment_);
    const std::vector<uint64_t> dims(shape.rbegin(), shape.rend());
    tensor_raw(name, dims, static_cast<uint32_t>(info(dtype).ggml_type), data_.size());
    data_.append(data ? *data : std::string(static_cast<size_t>(bytes), '\0'));
    return *this;
  }

  // A description alone: dimensions in the file's order, contiguous first, and an offset into the data.
  GgufBuilder& tensor_raw(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                          uint64_t offset) {
    put_text(tensors_, name);
    put_field(tensors_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t size : dims) put_field(tensors_, size);
    put_field(tensors_, type);
    put_field(tensors_, offset);
    ++tensor_count_;
    return *this;
  }

  // More bytes at the end of the data.
  GgufBuilder& data_raw(std::string_view data) {
    data_.append(data);
    return *this;
  }

  // The file. It ends with the last tensor's last byte, without padding, which readers must take.
  std::string build() const {
    std::string out = head();
    out.append(keys_.bytes).append(tensors_.bytes);
    if (tensor_count_ > 0) out.resize((out.size() + alignment_ - 1) / alignment_ * alignment_);
    return out + data_;
  }

  // Where the numbers of build() are that a reader must not trust.
  std::vector<Field> fields() const {
    const size_t keys = head().size();
    std::vector<Field> all{{4, 4}, {8, 8}, {16, 8}};
    for (const Field& field : keys_.fields) all.push_back({field.offset + keys, field.bytes});
    for (const Field& field : tensors_.fields) {
      all.push_back({field.offset + keys + keys_.bytes.size(), field.bytes});
    }
    return all;
  }

  // "stem-00002-of-00003.gguf"; parts count from 0.
  static std::string part_name(std::string_view stem, int part, int count) {
    const auto five = [](int number) {
      const std::string digits = cat(number);
      return std::string(5 - digits.size(), '0') + digits;
    };
    return cat(stem, "-", five(part + 1), "-of-", five(count), ".gguf");
  }

  // The keys that make this builder part `part` of `count` with `tensors` tensors in all parts together.
  GgufBuilder& split(int part, int count, int tensors) {
    return kv("split.no", static_cast<uint16_t>(part))
        .kv("split.count", static_cast<uint16_t>(count))
        .kv("split.tensors.count", int32_t{tensors});
  }

 private:
  static constexpr uint32_t kString = 8;
  static constexpr uint32_t kArray = 9;

  struct Section {
    std::string bytes;
    std::vector<Field> fields;
  };

  template <class T>
  static constexpr uint32_t type_id() {
    if constexpr (std::same_as<T, bool>) return 7;
    if constexpr (std::same_as<T, float>) return 6;
    if constexpr (std::same_as<T, double>) return 12;
    constexpr uint32_t kUnsigned[] = {0, 0, 2, 0, 4, 0, 0, 0, 10};  // by size; the signed type is the next id
    return kUnsigned[sizeof(T)] + (std::is_signed_v<T> ? 1 : 0);
  }

  template <class T>
  static void put(Section& section, T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    section.bytes.append(bytes, sizeof value);
  }
  template <class T>
  static void put_field(Section& section, T value) {
    section.fields.push_back({section.bytes.size(), sizeof value});
    put(section, value);
  }
  static void put_text(Section& section, std::string_view text) {
    put_field<uint64_t>(section, text.size());
    section.bytes.append(text);
  }

  template <class Element>
  void put_array(const std::vector<Element>& values) {
    constexpr bool kText = std::convertible_to<Element, std::string_view>;
    put_field<uint32_t>(keys_, kArray);
    if constexpr (kText) {
      put_field<uint32_t>(keys_, kString);
    } else {
      put_field<uint32_t>(keys_, type_id<Element>());
    }
    put_field<uint64_t>(keys_, values.size());
    for (const Element& value : values) {
      if constexpr (kText) {
        put_text(keys_, value);
      } else {
        put<Element>(keys_, value);
      }
    }
  }

  std::string head() const {
    Section out{"GGUF", {}};
    put(out, version_);
    put(out, tensor_count_);
    put(out, key_count_);
    return out.bytes;
  }

  uint32_t version_ = 3;
  size_t alignment_ = 32;
  uint64_t tensor_count_ = 0;
  uint64_t key_count_ = 0;
  Section keys_;
  Section tensors_;
  std::string data_;
};

}  // namespace llamita::test
