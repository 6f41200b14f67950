#include "text/tokenizer.h"

#include <filesystem>

#include "formats/gguf.h"

namespace llamita {

std::unique_ptr<Tokenizer> Tokenizer::load(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return from_folder(path);
  return from_gguf(gguf::File::open(path));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special, bool trusted) const {
  const Piece piece{std::string(text), trusted};
  return encode(std::span<const Piece>(&piece, 1), add_special);
}

}  // namespace llamita
