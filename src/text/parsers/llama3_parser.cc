#include "text/parsers/llama3_parser.h"

#include <algorithm>
#include <utility>

namespace llamita {

namespace {

constexpr std::string_view kTag = "<|python_tag|>", kSpace = " \t\r\n";

}  // namespace

ParsedDelta Llama3Parser::push(std::string_view text) {
  text_.append(text);
  ParsedDelta out;
  while (advance(out)) {
  }
  return out;
}

ParsedDelta Llama3Parser::finish() {
  ParsedDelta out;
  if (at_ == At::call && call_->told()) return out;
  if (calls_ > 0 && at_ == At::start && text_.find_first_not_of(kSpace) == std::string::npos) return out;
  out.content = std::exchange(before_, {});
  if (at_ == At::call) out.content += call_->kept();
  out.content += std::exchange(text_, {});
  return out;
}

bool Llama3Parser::advance(ParsedDelta& out) {
  switch (at_) {
    case At::start: return at_start();
    case At::call: {
      const bool was_told = call_->told();
      const bool silent = !parallel_ && calls_ > (was_told ? 1 : 0);
      const size_t used = call_->push(text_, calls_ - (was_told ? 1 : 0), silent, out);
      text_.erase(0, used);
      if (!was_told && call_->told()) ++calls_;
      if (call_->state() == CallScanner::State::reading) return false;
      if (call_->told()) {
        at_ = At::start;
        before_.clear();
      } else {
        text_.insert(0, std::exchange(before_, {}) + call_->kept());
        at_ = At::content;
      }
      call_.reset();
      return true;
    }
    case At::content: out.content += std::exchange(text_, {}); return false;
  }
  return false;
}

// Skips white space, separators of calls and the tag.
bool Llama3Parser::at_start() {
  for (;;) {
    const size_t start = std::min(text_.find_first_not_of(kSpace), text_.size());
    before_.append(text_, 0, start);
    text_.erase(0, start);
    if (text_.empty()) return false;
    if (calls_ > 0 && text_[0] == ';') {
      text_.erase(0, 1);
      before_.clear();
      continue;
    }
    if (text_.size() < kTag.size() && kTag.substr(0, text_.size()) == text_) return false;
    if (text_.rfind(kTag, 0) != 0) break;
    text_.erase(0, kTag.size());
  }
  if (text_[0] == '{') {
    at_ = At::call;
    call_.emplace();
  } else {
    text_.insert(0, std::exchange(before_, {}));
    at_ = At::content;
  }
  return true;
}

}  // namespace llamita
