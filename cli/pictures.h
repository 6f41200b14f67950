// Picture files that a person names on the command line or in a chat.
#pragma once

#include <string>
#include <vector>

#include "llamita/llm.h"

namespace llamita::cli {

// The file, to stand before the first byte of its text. Throws Error that names it when it cannot be read, is
// larger than images may be, or does not decode.
Picture read_picture(const std::string& path);
std::vector<Picture> read_pictures(const std::vector<std::string>& paths);

// Throws Error when there are pictures and the model takes none.
void require_sight(const std::vector<std::string>& paths, const ModelInfo& info);

}  // namespace llamita::cli
