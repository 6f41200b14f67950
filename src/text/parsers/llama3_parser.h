// Replies that are calls from their first character on, as Llama 3.1 and 3.2 write them:
// {"name": …, "parameters": {…}}, possibly after <|python_tag|>, several separated by ";" or white space.
#pragma once

#include <optional>
#include <string>

#include "text/parsers/call_reader.h"
#include "text/parsers/tool_call_parser.h"

namespace llamita {

class Llama3Parser : public ToolCallParser {
 public:
  explicit Llama3Parser(bool parallel) : parallel_(parallel) {}
  ParsedDelta push(std::string_view text) override;
  ParsedDelta finish() override;
  int calls() const override { return calls_; }

 private:
  enum class At { start, call, content };
  bool advance(ParsedDelta& out);  // false: more text is needed
  bool at_start();

  bool parallel_;
  At at_ = At::start;
  std::string text_;    // not looked at yet
  std::string before_;  // what stands in front of the call under way, if it turns out to be none
  std::optional<CallReader> call_;
  int calls_ = 0;
};

}  // namespace llamita
