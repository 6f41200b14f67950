// Detokenizer: token ids in, text out as soon as it is complete. A character whose bytes are spread over
// several tokens appears whole with its last byte, never in parts; bytes that can become no character appear
// as U+FFFD. The concatenation of all pushes and finish() equals Tokenizer::decode of all ids (control tokens
// skipped).
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace llamita {

class Detokenizer {
 public:
  // Borrows the tokenizer.
  explicit Detokenizer(const Tokenizer& tokenizer)
      : tokenizer_(&tokenizer), strip_(tokenizer.strips_leading_space()) {}

  // Valid UTF-8 that this token completes; may be empty.
  std::string push(int32_t id);
  // What is left at the end: U+FFFD for an incomplete character.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool strip_;           // a leading space is still to be dropped
  std::string pending_;  // at most three bytes that begin a character
};

}  // namespace llamita
