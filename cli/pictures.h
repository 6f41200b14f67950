// Picture files that a person names on the command line or in a chat.
#pragma once

#include <string>
#include <vector>

#include "llamita/llm.h"

namespace llamita::cli {

// The file, to stand before the first byte of its text. Throws Error when it cannot be read or is larger than
// any image that is taken. Whether it is an image is seen when it is asked about.
Picture read_picture(const std::string& path);
std::vector<Picture> read_pictures(const std::vector<std::string>& paths);

// Throws Error when there are pictures and the model takes none.
void require_sight(const std::vector<std::string>& paths, const ModelInfo& info);

}  // namespace llamita::cli
