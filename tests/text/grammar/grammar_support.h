// Vocabularies and short ways to a Matcher for the tests of grammars.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"

namespace llamita::test {

// All 256 bytes and many pieces of JSON, words and parts of characters; the last token ends a text.
inline std::shared_ptr<const grammar::TokenTrie> synthetic_trie() {
  static const auto trie = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
    for (const char* piece : {"{\"",      "\":",
                              "\": ",     "\": \"",
                              "\",",      "\", \"",
                              "\"}",      "\"}}",
                              "\"]",      "},",
                              "]}",       "}]",
                              "[[",       "[{\"",
                              "[]",       "{}",
                              "}}}",      "true",
                              "false",    "null",
                              "tru",      "nul",
                              "12",       "123",
                              "1.5",      "-1",
                              "0.",       "e+",
                              "00",       "2024",
                              "\\\"",     "\\n",
                              "\\u00",    "\\ud83d\\ude00",
                              "name",     "na",
                              "value",    "id",
                              "the",      " the",
                              "  ",       "\n  ",
                              ", ",       "\xC3\xA9",
                              "\xE6\x97", "\xA5",
                              "\xF0\x9F", "\x98\x80",
                              "a\"",      "ab\",\"",
                              "1,",       "1, 2",
                              "1]",       "12}",
                              "abc",      "xyz",
                              "A",        "AB",
                              "-0",       "\",\"b\":"}) {
      bytes.emplace_back(piece);
    }
    bytes.emplace_back();
    const auto stop = static_cast<int32_t>(bytes.size()) - 1;
    return std::make_shared<const grammar::TokenTrie>(std::move(bytes), std::vector<int32_t>{stop});
  }();
  return trie;
}

inline grammar::Matcher matcher_of(std::shared_ptr<const grammar::Grammar> grammar,
                                   std::shared_ptr<const grammar::TokenTrie> trie = synthetic_trie()) {
  return grammar::Matcher(std::make_shared<grammar::MaskCache>(std::move(grammar), std::move(trie)));
}

inline bool matches(const std::shared_ptr<const grammar::Grammar>& grammar, std::string_view text) {
  auto matcher = matcher_of(grammar);
  // Byte by byte: the work of one step is that of a token, not of a text.
  for (size_t i = 0; i < text.size(); ++i) {
    if (!matcher.accept_bytes(text.substr(i, 1))) return false;
  }
  return matcher.is_complete();
}

inline bool gbnf_matches(std::string_view gbnf, std::string_view text) {
  return matches(grammar::parse_gbnf(gbnf), text);
}
inline bool schema_matches(std::string_view schema, std::string_view text) {
  return matches(grammar::json_schema_grammar(schema), text);
}

// Random tokens that the mask allows, until a stop token or `steps`. Beyond half of them it takes stop tokens
// and closing brackets and quotes where it can.
inline std::string random_walk(grammar::Matcher& matcher, const grammar::TokenTrie& trie,
                               std::mt19937_64& random, int steps) {
  std::string text;
  std::vector<uint32_t> mask(matcher.mask_words());
  for (int step = 0; step < steps && !matcher.is_finished(); ++step) {
    if (matcher.fill_mask(mask) == 0) break;
    std::vector<int32_t> allowed, closing;
    for (int32_t id = 0; id < trie.vocab_size(); ++id) {
      if ((mask[size_t(id) / 32] >> (id % 32) & 1) == 0) continue;
      allowed.push_back(id);
      const std::string& bytes = trie.bytes(id);
      if (trie.is_stop(id) || bytes == "\"" || bytes == "}" || bytes == "]") closing.push_back(id);
    }
    const bool close = step > steps / 2 && !closing.empty();
    const auto& from = close ? closing : allowed;
    const int32_t token = from[random() % from.size()];
    text += trie.bytes(token);
    if (!matcher.accept(token)) return "refused: " + text;
  }
  return text;
}

}  // namespace llamita::test
