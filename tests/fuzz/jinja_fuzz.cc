// Any bytes are a template: parsing and rendering them ends, within the budgets, in text or in an Error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "llamita/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const llamita::Json messages = llamita::Json::parse(
      R"([{"role": "user", "content": "a <|b|> c"}, {"role": "tool", "content": [{"type": "text", "n": 1.5}]}])",
      "fuzz");
  try {
    const llamita::ChatTemplate chat(std::string_view(reinterpret_cast<const char*>(data), size));
    llamita::ChatTemplate::Options options;
    options.bos_token = "<s>";
    options.tools = messages;
    options.now = 0;
    for (const auto& piece : chat.render(messages, options)) {
      if (piece.text.empty()) __builtin_trap();  // pieces are never empty
    }
  } catch (const llamita::Error&) {
  }
  return 0;
}
