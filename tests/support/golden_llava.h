// The LLaVA checkpoints of tests/golden and what transformers computed with them.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "engine/prepared_image.h"
#include "formats/safetensors.h"
#include "sched/batch.h"

namespace llamita::test {

struct LlavaGolden {
  std::vector<int32_t> ids;           // (T), the image token in every place of an image
  std::vector<float> pixels, logits;  // (n, 3, S, S); of all tokens, or of the last ones
  std::vector<ImageSpan> images;
  std::vector<int32_t> tokens;  // as the engine has them
};

// `name`: a folder under tests/golden.
inline LlavaGolden read_llava_golden(const std::string& name, int prompt, int32_t image_token, int rows) {
  LlavaGolden golden;
  const std::string folder = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/" + name;
  for (const auto& tensor : safetensors::open_file(folder + "/golden.safetensors")) {
    const size_t dot = tensor.name.rfind('.');
    if (tensor.name.substr(dot + 1) != std::to_string(prompt)) continue;
    const std::string what = tensor.name.substr(0, dot);
    const auto copy = [&](auto& to) {
      to.resize(tensor.data.size() / 4);
      std::memcpy(to.data(), tensor.data.data(), tensor.data.size());
    };
    if (what == "ids") copy(golden.ids);
    if (what == "pixel_values") copy(golden.pixels);
    if (what == "logits") copy(golden.logits);
  }
  golden.tokens = golden.ids;
  size_t images = 0;
  for (const int32_t id : golden.ids) images += id == image_token ? 1 : 0;
  images /= static_cast<size_t>(rows);
  for (size_t at = 0; at < golden.ids.size(); ++at) {
    if (golden.ids[at] != image_token || golden.pixels.empty()) continue;
    auto image = std::make_shared<PreparedImage>();
    image->token = sched::kFirstImageToken + static_cast<int32_t>(golden.images.size());
    const size_t size = golden.pixels.size() / images, begin = size * golden.images.size();
    image->pixels.assign(golden.pixels.begin() + static_cast<std::ptrdiff_t>(begin),
                         golden.pixels.begin() + static_cast<std::ptrdiff_t>(begin + size));
    const int first = static_cast<int>(at);
    golden.images.push_back({first, first + rows, image});
    for (int row = 0; row < rows; ++row) golden.tokens[at++] = image->token;
    --at;
  }
  return golden;
}

}  // namespace llamita::test
