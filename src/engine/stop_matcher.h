// StopMatcher: finds stop strings in a reply that arrives in pieces. Text that could still become a stop
// string is held back; a stop string itself is never given out. Where the text is cut does not depend on how
// it was split into pieces: the stop string that is complete first wins, of two that end together the longer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llamita {

class StopMatcher {
 public:
  // `stops` are not empty and begin with a whole character.
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Text that is now certain to belong to the reply. Nothing more after a match.
  std::string push(std::string_view text);
  // What was held back, once no more text comes.
  std::string finish();
  bool matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // shorter than the longest stop string
  bool matched_ = false;
};

}  // namespace llamita
