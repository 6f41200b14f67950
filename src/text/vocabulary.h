// Vocabulary: the spelling of every token, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace llamita {

// The alphabet in which byte-level vocabularies are spelled: every byte is a printable character.
char32_t byte_to_char(unsigned char byte);
// -1 when the character is not in the alphabet.
int char_to_byte(char32_t c);
// `bytes` spelled in the alphabet.
std::string spell_bytes(std::string_view bytes);
// The byte of a byte-fallback token ("<0x0A>"), or -1.
int byte_of_fallback_token(std::string_view text);

class Vocabulary {
 public:
  Vocabulary() = default;
  // The spelling of id i is texts[i]; an empty one is a hole. Throws Error naming `source` when two tokens
  // are spelled alike, unless `first_wins`.
  Vocabulary(std::vector<std::string> texts, const std::string& source, bool first_wins);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  int32_t size() const { return static_cast<int32_t>(texts_.size()); }
  bool contains(int32_t id) const { return id >= 0 && id < size(); }
  const std::string& text(int32_t id) const { return texts_[static_cast<size_t>(id)]; }
  std::optional<int32_t> find(std::string_view text) const;

 private:
  std::vector<std::string> texts_;
  std::unordered_map<std::string_view, int32_t> ids_;  // into texts_
};

}  // namespace llamita
