// Any bytes are a GGUF file or an Error; the tensors of a file lie inside it and share no byte.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "formats/gguf.h"
#include "llamita/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto file = llamita::gguf::File::parse(bytes, "input");
    size_t sum = 0;
    for (const auto& tensor : file.tensors()) {
      const std::byte* end = tensor.data.data() + tensor.data.size();
      LLAMITA_CHECK(tensor.data.data() >= bytes.data() && end <= bytes.data() + size, "outside the file");
      int64_t elems = 1;
      for (const int64_t dim : tensor.shape) elems *= dim;
      const auto expected = static_cast<size_t>(llamita::row_bytes(tensor.dtype, elems));
      LLAMITA_CHECK(tensor.data.size() == expected, "size and shape differ");
      sum += tensor.data.size();
    }
    LLAMITA_CHECK(sum <= size, "tensors of ", sum, " bytes in ", size);
    for (const auto& key : file.keys()) LLAMITA_CHECK(file.find(key) != nullptr, "a key without value");
  } catch (const llamita::Error&) {
  }
  return 0;
}
