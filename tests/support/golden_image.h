// tests/golden/image: small image files and what transformers makes of them.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/safetensors.h"
#include "support/golden.h"

namespace llamita::test {

// The names of the files, sorted by the file system's order.
inline std::vector<std::string> golden_image_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_path("image/files"))) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

struct ImageGolden {
  std::string name;  // behind the prefix
  int height = 0;
  int width = 0;
  std::vector<uint8_t> pixels;  // (H, W, 3) of a U8 tensor
  std::vector<float> values;    // (3, H, W) of an F32 tensor
};

// The tensors whose names begin with `prefix`.
inline std::vector<ImageGolden> image_goldens(const std::string& prefix) {
  std::vector<ImageGolden> out;
  for (const auto& tensor : safetensors::open_file(golden_path("image/golden.safetensors"))) {
    if (!tensor.name.starts_with(prefix)) continue;
    ImageGolden golden;
    golden.name = tensor.name.substr(prefix.size());
    const bool values = tensor.dtype == DType::f32;
    golden.height = static_cast<int>(tensor.shape[values ? 1 : 0]);
    golden.width = static_cast<int>(tensor.shape[values ? 2 : 1]);
    if (values) {
      golden.values.resize(tensor.data.size() / sizeof(float));
      std::memcpy(golden.values.data(), tensor.data.data(), tensor.data.size());
    } else {
      golden.pixels.resize(tensor.data.size());
      std::memcpy(golden.pixels.data(), tensor.data.data(), tensor.data.size());
    }
    out.push_back(std::move(golden));
  }
  return out;
}

}  // namespace llamita::test
