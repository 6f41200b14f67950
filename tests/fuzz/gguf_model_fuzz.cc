// Any bytes are a GGUF model, with its tokenizer, or an Error.
#include <cstddef>
#include <cstdint>
#include <span>

#include "llamita/error.h"
#include "models/model.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llamita;
  try {
    const auto file = gguf::File::parse(std::as_bytes(std::span(data, size)), "input");
    try {
      load_model(TensorFiles::of(file));
    } catch (const Error&) {  // a tokenizer may be there all the same
    }
    const auto tokenizer = Tokenizer::from_gguf(file);
    tokenizer->decode(tokenizer->encode("Hello, world 42", true, false), false);
  } catch (const Error&) {
  }
  return 0;
}
