#include "text/parsers/hermes_parser.h"

#include <algorithm>
#include <utility>

namespace llamita {

namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>", kSpace = " \t\r\n";

// The longest end of `text` that `tag` could begin with.
size_t begun(std::string_view text, std::string_view tag) {
  for (size_t length = std::min(text.size(), tag.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == tag.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

ParsedDelta HermesParser::push(std::string_view text) {
  text_.append(text);
  ParsedDelta out;
  while (advance(out)) {
  }
  return out;
}

ParsedDelta HermesParser::finish() {
  ParsedDelta out;
  if (at_ == At::content) {
    out.content = std::exchange(text_, {});
  } else if (at_ == At::before_call || (at_ == At::call && !call_->told())) {
    give_back(out);
    out.content += std::exchange(text_, {});
  }
  return out;
}

bool HermesParser::advance(ParsedDelta& out) {
  switch (at_) {
    case At::content: return in_content(out);
    case At::before_call: {
      const size_t start = text_.find_first_not_of(kSpace);
      opened_.append(text_, 0, std::min(start, text_.size()));
      text_.erase(0, std::min(start, text_.size()));
      if (text_.empty()) return false;
      call_.emplace();
      at_ = At::call;
      return true;
    }
    case At::call: return in_call(out);
    case At::after_call: {
      const size_t close = text_.find(kClose);
      const size_t next = text_.find(kOpen);
      if (close == std::string::npos && next == std::string::npos) {
        // Whatever stands between a call and its closing tag is nothing.
        text_.erase(0, text_.size() - std::max(begun(text_, kClose), begun(text_, kOpen)));
        return false;
      }
      text_.erase(0, close < next ? close + kClose.size() : next);
      at_ = At::content;
      return true;
    }
  }
  return false;
}

// White space before a tag belongs to the tag: content of nothing else is none.
bool HermesParser::in_content(ParsedDelta& out) {
  const size_t tag = text_.find(kOpen);
  const bool found = tag != std::string::npos;
  size_t end = found ? tag : text_.size() - begun(text_, kOpen);
  while (end > 0 && kSpace.find(text_[end - 1]) != std::string_view::npos) --end;
  out.content.append(text_, 0, end);
  if (!found) {
    text_.erase(0, end);
    return false;
  }
  opened_.assign(text_, end, tag + kOpen.size() - end);
  text_.erase(0, tag + kOpen.size());
  at_ = At::before_call;
  return true;
}

bool HermesParser::in_call(ParsedDelta& out) {
  const bool was_told = call_->told();
  const bool silent = !parallel_ && calls_ > (was_told ? 1 : 0);
  const size_t used = call_->push(text_, calls_ - (was_told ? 1 : 0), silent, out);
  text_.erase(0, used);
  if (!was_told && call_->told()) ++calls_;
  if (call_->state() == CallScanner::State::reading) return false;
  if (call_->state() == CallScanner::State::failed && !call_->told()) {
    give_back(out);
    at_ = At::content;
  } else {
    at_ = At::after_call;
  }
  return true;
}

void HermesParser::give_back(ParsedDelta& out) {
  out.content += std::exchange(opened_, {});
  if (call_) out.content += call_->kept();
  call_.reset();
}

}  // namespace llamita
