// Conversations on disk: {"model": "…", "messages": [{"role": "user", "content": "…"}, …]}. Messages with
// pictures have their content in OpenAI's parts, pictures as data: URLs.
#pragma once

#include <string>

#include "llamita/request.h"

namespace llamita::cli {

// Writes the whole file or leaves what was there. Throws Error.
void save_conversation(const std::string& path, const std::string& model, const Conversation& conversation);

// Throws Error naming the file and what is wrong with it.
Conversation load_conversation(const std::string& path);

}  // namespace llamita::cli
