#include "text/tokenizer.h"

namespace llamita {

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special, bool trusted) const {
  const Piece piece{std::string(text), trusted};
  return encode(std::span<const Piece>(&piece, 1), add_special);
}

}  // namespace llamita
