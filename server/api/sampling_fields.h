// The fields that /v1/chat/completions and /v1/completions share.
#pragma once

#include "server/api/fields.h"
#include "server/api/generation_request.h"

namespace llamita::server {

// model, stream, stream_options, n, temperature, …: everything but prompt, tools and logprobs.
void read_common(Fields& fields, const ParseContext& context, GenerationRequest& out, SamplingParams& params);

// A string, an array of strings, an array of token ids or an array of those.
using Prompt = std::variant<std::string, std::vector<int32_t>>;
std::vector<Prompt> read_prompts(const Json& value, const std::string& name, const ParseContext& context);
std::vector<int32_t> read_token_ids(const Json::Array& array, const std::string& name,
                                    const ParseContext& context);

}  // namespace llamita::server
