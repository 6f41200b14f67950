// Detokenizer: token ids in, text out as soon as it is complete. A character whose bytes are spread over
// several tokens appears whole with its last byte, never in parts; bytes that can become no character appear
// as U+FFFD. Runs of byte-fallback tokens ("<0x0A>", SentencePiece vocabularies) appear with the token after
// them, because only then it is certain whether they are text. The concatenation of all pushes and finish()
// equals Tokenizer::decode of all ids (control tokens skipped).
#pragma once

#include <cstdint>
#include <string>

#include "text/text_joiner.h"
#include "text/tokenizer.h"

namespace llamita {

class Detokenizer {
 public:
  // Borrows the tokenizer.
  explicit Detokenizer(const Tokenizer& tokenizer)
      : tokenizer_(&tokenizer), joiner_(tokenizer.strips_leading_space()) {}

  // Valid UTF-8 that this token completes; may be empty.
  std::string push(int32_t id);
  // What is left at the end: U+FFFD for an incomplete character.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  TextJoiner joiner_;
  bool first_ = true;  // no token has been text yet
};

}  // namespace llamita
