// Bodies of /tokenize and /detokenize.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/generation_request.h"

namespace llamita::server {

struct TokenizeRequest {
  std::optional<std::string> model;
  std::string text;
  bool add_special = false;  // tokens that begin a prompt
};
struct DetokenizeRequest {
  std::optional<std::string> model;
  std::vector<int32_t> tokens;
};

// Both throw ApiError (400) that names the field.
// {"prompt": …} as vLLM has it, or {"content": …} as llama.cpp; each with its own default for special tokens.
TokenizeRequest parse_tokenize(std::string_view body, const ParseContext& context);
DetokenizeRequest parse_detokenize(std::string_view body, const ParseContext& context);

}  // namespace llamita::server
