#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace llamita {

namespace {

// The longest end of `text` that begins `stop` without completing it.
size_t begun(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

std::string StopMatcher::push(std::string_view text) {
  if (matched_) return "";
  const size_t old = held_.size();
  held_ += text;
  for (size_t end = old + 1; end <= held_.size() && !matched_; ++end) {
    const std::string_view seen(held_.data(), end);
    size_t longest = 0;
    for (const std::string& stop : stops_) {
      if (seen.size() >= stop.size() && seen.substr(end - stop.size()) == stop) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest == 0) continue;
    matched_ = true;
    held_.resize(end - longest);
  }
  if (matched_) return std::exchange(held_, {});
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, begun(held_, stop));
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace llamita
