// What a chat says before its first prompt.
#pragma once

#include <string>

#include "cli/output.h"
#include "llamita/llm.h"

namespace llamita::cli {

// `model` is the MODEL argument, "" for the default model, whose greeting says how to get a better one.
std::string greeting(const ModelInfo& info, const std::string& model, const Paint& paint);

}  // namespace llamita::cli
