// ToolCallParser: a reply in pieces in, its content and calls of tools out, as soon as they are certain.
//
//   auto parser = make_tool_call_parser(ToolFormat::hermes, true);
//   for (piece) { ParsedDelta delta = parser->push(piece); … }
//   ParsedDelta rest = parser->finish();
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llamita {

enum class ToolFormat {
  hermes,  // <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number, between content
  llama3,  // the whole reply is {"name": …, "parameters": {…}}; several are separated by ";"
};

// "hermes" or "llama3"; what models of a family ("llama", "qwen2", …) write when nothing else is known.
ToolFormat tool_format_of_family(std::string_view family);

struct ToolCallDelta {
  int index = 0;          // of the call in the reply
  std::string name;       // with the first delta of a call
  std::string arguments;  // the next piece of the arguments' JSON text
};

struct ParsedDelta {
  std::string content;
  std::vector<ToolCallDelta> calls;
};

class ToolCallParser {
 public:
  virtual ~ToolCallParser() = default;
  virtual ParsedDelta push(std::string_view text) = 0;
  // What was held back; a call that is cut off stays as far as it came.
  virtual ParsedDelta finish() = 0;
  // So far.
  virtual int calls() const = 0;
};

// `parallel`: false takes the first call only and drops what follows it.
std::unique_ptr<ToolCallParser> make_tool_call_parser(ToolFormat format, bool parallel);

}  // namespace llamita
