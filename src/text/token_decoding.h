// TokenDecoding: what each token of a vocabulary adds to a text, worked out once from the decoder that the
// model's files describe.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "text/pattern.h"
#include "text/vocabulary.h"

namespace llamita {

struct TokenDecoding {
  std::vector<std::string> bytes;                  // of each id
  std::vector<bool> is_byte;                       // a byte-fallback token (see TextJoiner)
  std::unordered_map<int32_t, std::string> first;  // of ids that add something else when they come first
  bool strip_leading_space = false;
};

namespace decoders {

struct ByteLevel {};     // the byte alphabet back to bytes; joins the tokens
struct ByteFallback {};  // "<0x0A>" is a byte
struct Fuse {};          // joins the tokens
struct Replace {
  Pattern pattern;
  std::string with;
};
struct Strip {  // up to so many of one character from both ends of each token, or of the text after a join
  char32_t character;
  int64_t left;
  int64_t right;
};
struct Metaspace {  // spaces instead of the replacement; in the first token nothing, if one was prepended
  std::string replacement;
  bool prepended;
};
struct Separator {};  // no decoder: tokens joined by spaces

using Step = std::variant<ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, Separator>;

}  // namespace decoders

// Throws Error naming `source` for an order of steps whose text cannot be streamed token by token.
TokenDecoding make_token_decoding(const Vocabulary& vocabulary, const std::vector<decoders::Step>& steps,
                                  const std::string& source);

}  // namespace llamita
