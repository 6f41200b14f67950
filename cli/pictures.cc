#include "cli/pictures.h"

#include <filesystem>

#include "base/cat.h"
#include "cli/output.h"

namespace llamita::cli {

namespace {

constexpr uintmax_t kMostBytes = uintmax_t{16} << 20;  // what decoders take (image/image.h)

}  // namespace

Picture read_picture(const std::string& path) {
  std::error_code unknown;
  const uintmax_t bytes = std::filesystem::file_size(path, unknown);
  if (!unknown && bytes > kMostBytes)
    throw Error(cat(path, " has ", bytes, " bytes, images of at most ", kMostBytes, " are taken"));
  return {std::make_shared<const std::string>(read_file(path)), 0};
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
