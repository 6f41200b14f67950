#include "text/parsers/tool_call_parser.h"

#include "text/parsers/hermes_parser.h"
#include "text/parsers/llama3_parser.h"

namespace llamita {

ToolFormat tool_format_of_family(std::string_view family) {
  return family == "llama" ? ToolFormat::llama3 : ToolFormat::hermes;
}

std::unique_ptr<ToolCallParser> make_tool_call_parser(ToolFormat format, bool parallel) {
  if (format == ToolFormat::llama3) return std::make_unique<Llama3Parser>(parallel);
  return std::make_unique<HermesParser>(parallel);
}

}  // namespace llamita
