// CallReader: one call inside a reply. Keeps the text until the call is named, so that what turns out to be
// no call can be given back as content.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/parsers/call_scanner.h"
#include "text/parsers/tool_call_parser.h"

namespace llamita {

class CallReader {
 public:
  // Bytes used of `text`; deltas of the call `index` go to `out` unless `silent`.
  size_t push(std::string_view text, int index, bool silent, ParsedDelta& out) {
    const size_t used = scanner_.push(text);
    if (!told_) kept_.append(text.substr(0, used));
    if (!scanner_.named()) return used;
    ToolCallDelta delta{index, told_ ? std::string() : scanner_.name(), scanner_.take_arguments()};
    told_ = true;
    kept_.clear();
    if (!silent && (!delta.name.empty() || !delta.arguments.empty())) out.calls.push_back(std::move(delta));
    return used;
  }
  CallScanner::State state() const { return scanner_.state(); }
  // Its name was given out.
  bool told() const { return told_; }
  // The text of a call that failed before it was told.
  const std::string& kept() const { return kept_; }

 private:
  CallScanner scanner_;
  std::string kept_;
  bool told_ = false;
};

}  // namespace llamita
