// Any bytes are a JPEG image within the limits or an Error.
#include "fuzz/image_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  llamita::fuzz::fuzz_image(&llamita::decode_jpeg, data, size);
  return 0;
}
