// Any bytes are a safetensors file or an Error; the tensors of a file tile its data from first to last byte.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "formats/safetensors.h"
#include "llamita/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const std::byte* at = nullptr;
    for (const auto& tensor : llamita::safetensors::parse(bytes, "input")) {
      int64_t elems = 1;
      for (const int64_t dim : tensor.shape) elems *= dim;
      const auto expected = static_cast<size_t>(llamita::row_bytes(tensor.dtype, elems));
      LLAMITA_CHECK(tensor.data.size() == expected, "size and shape differ");
      LLAMITA_CHECK(at == nullptr || tensor.data.data() == at, "a hole or an overlap");
      at = tensor.data.data() + tensor.data.size();
    }
    LLAMITA_CHECK(at == nullptr || at == bytes.data() + size, "the data is longer than its tensors");
  } catch (const llamita::Error&) {
  }
  return 0;
}
