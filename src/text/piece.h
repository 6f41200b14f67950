// Piece: a stretch of prompt text that knows where it came from. Text of the model's template may contain
// control tokens ("<|im_start|>"); text of a user or of a file never becomes one, whatever characters it
// holds.
#pragma once

#include <string>
#include <vector>

namespace llamita {

struct Piece {
  std::string text;
  bool trusted = false;  // true: control tokens inside are recognised
};

}  // namespace llamita
