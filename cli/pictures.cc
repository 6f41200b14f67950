#include "cli/pictures.h"

#include <span>

#include "base/cat.h"
#include "cli/output.h"
#include "image/decode.h"

namespace llamita::cli {

Picture read_picture(const std::string& path) {
  auto file = std::make_shared<const std::string>(read_file(path, ImageLimits{}.bytes));
  decode_image(std::as_bytes(std::span(*file)), path);  // before anything waits for it
  return {std::move(file), 0};
}

std::vector<Picture> read_pictures(const std::vector<std::string>& paths) {
  std::vector<Picture> pictures;
  for (const std::string& path : paths) pictures.push_back(read_picture(path));
  return pictures;
}

void require_sight(const std::vector<std::string>& paths, const ModelInfo& info) {
  if (paths.empty() || info.image_tokens > 0) return;
  throw Error(cat("--image: ", info.name, " takes no images; a LLaVA model does"));
}

}  // namespace llamita::cli
