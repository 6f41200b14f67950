// Any bytes as a JSON schema (after four bytes of seed), or as GBNF when they begin with '#': a grammar or an
// Error. Of a grammar, a random walk through the masks never gets stuck, and what it writes is JSON when it
// ends (but for keys that repeat, which a schema does not forbid).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "llamita/error.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"

namespace {

using namespace llamita;
using namespace llamita::grammar;

void require(bool truth) {
  if (!truth) std::abort();
}

const std::shared_ptr<const TokenTrie>& trie() {
  static const auto made = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
    for (const char* piece :
         {"{\"", "\":", "\": \"", "\",", "\"}", "]}", "[[", "true", "12", "-1", "\\u00", "ab", "a\""}) {
      bytes.emplace_back(piece);
    }
    bytes.emplace_back();
    const auto stop = static_cast<int32_t>(bytes.size()) - 1;
    return std::make_shared<const TokenTrie>(std::move(bytes), std::vector<int32_t>{stop});
  }();
  return made;
}

void walk(const std::shared_ptr<const Grammar>& grammar, uint32_t seed, bool json) {
  Matcher matcher(std::make_shared<MaskCache>(grammar, trie()));
  std::vector<uint32_t> mask(matcher.mask_words());
  std::mt19937 random(seed);
  std::string text;
  for (int step = 0; step < 64 && !matcher.is_finished(); ++step) {
    size_t pick = matcher.fill_mask(mask);
    require(pick > 0);
    pick = random() % pick;
    int32_t token = 0;
    for (;; ++token) {
      if ((mask[size_t(token) / 32] >> (token % 32) & 1) != 0 && pick-- == 0) break;
    }
    require(matcher.accept(token));
    text += trie()->bytes(token);
  }
  if (!json || !matcher.is_finished()) return;
  try {
    Json::parse(text, "reply");
  } catch (const Error& error) {
    require(std::string_view(error.what()).find("twice") != std::string_view::npos ||
            std::string_view(error.what()).find("duplicate") != std::string_view::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 5) return 0;
  const uint32_t seed = data[0] | uint32_t{data[1]} << 8 | uint32_t{data[2]} << 16 | uint32_t{data[3]} << 24;
  const std::string_view text(reinterpret_cast<const char*>(data + 4), size - 4);
  const bool json = text[0] != '#';
  try {
    walk(json ? json_schema_grammar(text) : parse_gbnf(text), seed, json);
  } catch (const Error&) {
  }
  return 0;
}
