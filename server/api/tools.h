// Tools in chat requests: what is offered, what must be called, and the form a forced call is held to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/api/fields.h"
#include "text/parsers/tool_call_parser.h"

namespace llamita::server {

struct ToolUse {
  bool offered = false;  // calls are looked for in the reply
  bool forced = false;   // the reply is one call and nothing else
  bool parallel = true;  // several calls in one reply
  ToolFormat format = ToolFormat::hermes;
  std::string json;    // for the chat template: OpenAI's array
  std::string schema;  // when forced: of the reply
};

// tools, tool_choice and parallel_tool_calls of a chat request. Throws ApiError.
ToolUse read_tools(Fields& fields, int most, ToolFormat format);

}  // namespace llamita::server
