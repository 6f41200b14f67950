// Calls between <tool_call> and </tool_call>, as Qwen2.5, Qwen3 and the Hermes models write them.
#pragma once

#include <optional>
#include <string>

#include "text/parsers/call_reader.h"
#include "text/parsers/tool_call_parser.h"

namespace llamita {

class HermesParser : public ToolCallParser {
 public:
  explicit HermesParser(bool parallel) : parallel_(parallel) {}
  ParsedDelta push(std::string_view text) override;
  ParsedDelta finish() override;
  int calls() const override { return calls_; }

 private:
  enum class At { content, before_call, call, after_call };
  bool advance(ParsedDelta& out);  // false: more text is needed
  bool in_content(ParsedDelta& out);
  bool in_call(ParsedDelta& out);
  void give_back(ParsedDelta& out);  // what looked like a call is content

  bool parallel_;
  At at_ = At::content;
  std::string text_;    // not looked at yet
  std::string opened_;  // the tag and white space in front of the call under way
  std::optional<CallReader> call_;
  int calls_ = 0;
};

}  // namespace llamita
