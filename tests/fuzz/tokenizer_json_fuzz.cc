// Any bytes as tokenizer.json: an Error or a tokenizer whose ids are all in range and whose streamed text is
// its decoded text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "llamita/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using namespace llamita;

void require(bool truth) {
  if (!truth) std::abort();
}

void use(const Tokenizer& tokenizer, std::string_view text, bool trusted) {
  const auto ids = tokenizer.encode(text, true, trusted);
  Detokenizer detokenizer(tokenizer);
  std::string streamed;
  for (const int32_t id : ids) {
    require(id >= 0 && id < tokenizer.vocab_size());
    streamed += detokenizer.push(id);
  }
  streamed += detokenizer.finish();
  require(streamed == tokenizer.decode(ids, true));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = Tokenizer::from_json(bytes, "fuzz");
    for (const bool trusted : {false, true}) {
      use(*tokenizer, "Hello, world's 123\n\n <s>x</s> \xE6\x97\xA5\xFF", trusted);
      use(*tokenizer, bytes.substr(0, 200), trusted);
    }
  } catch (const Error&) {
  }
  return 0;
}
