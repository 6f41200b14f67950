// Any bytes are JSON or an Error; what is JSON dumps to a text that reads back as the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "formats/json.h"
#include "llamita/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using llamita::Json;
  try {
    const std::string once = Json::parse({reinterpret_cast<const char*>(data), size}, "input").dump();
    LLAMITA_CHECK(Json::parse(once, "dump").dump() == once, "the dump reads back as another value");
  } catch (const llamita::Error&) {
  }
  return 0;
}
