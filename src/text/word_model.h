// WordModel: the part of a tokenizer that turns one word into token ids.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/merging.h"

namespace llamita {

class WordModel {
 public:
  virtual ~WordModel() = default;
  // Appends the tokens of `word` (valid UTF-8). `scratch` may be reused from word to word by one thread.
  virtual void encode(std::string_view word, merging::Scratch& scratch, std::vector<int32_t>& out) const = 0;
};

}  // namespace llamita
