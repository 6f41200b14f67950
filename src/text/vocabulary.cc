#include "text/vocabulary.h"

#include <array>

#include "base/cat.h"
#include "llamita/error.h"
#include "text/unicode.h"

namespace llamita {

namespace {

bool is_printable_byte(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<char32_t, 256> to_char{};
  std::array<int16_t, 0x200> to_byte{};

  Alphabet() {
    to_byte.fill(-1);
    char32_t next = 0x100;  // bytes that do not print take these, in order
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t c = is_printable_byte(byte) ? static_cast<char32_t>(byte) : next++;
      to_char[static_cast<size_t>(byte)] = c;
      to_byte[c] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

char32_t byte_to_char(unsigned char byte) { return alphabet().to_char[byte]; }
int char_to_byte(char32_t c) { return c < 0x200 ? alphabet().to_byte[c] : -1; }

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) unicode::append(out, byte_to_char(static_cast<unsigned char>(byte)));
  return out;
}

int byte_of_fallback_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Vocabulary::Vocabulary(std::vector<std::string> texts, const std::string& source, bool first_wins)
    : texts_(std::move(texts)) {
  ids_.reserve(texts_.size());
  for (size_t id = 0; id < texts_.size(); ++id) {
    if (texts_[id].empty()) continue;
    const auto [entry, added] = ids_.emplace(texts_[id], static_cast<int32_t>(id));
    if (!added && !first_wins) {
      throw Error(cat(source, ": tokens ", entry->second, " and ", id, " are both spelled \"", texts_[id],
                      "\"; each token needs a spelling of its own"));
    }
  }
}

std::optional<int32_t> Vocabulary::find(std::string_view text) const {
  const auto found = ids_.find(text);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace llamita
