// Any bytes are a PNG image within the limits or an Error. Mutations get their checksums mended, or nothing
// behind the first chunk would ever be read.
#include <zlib.h>

#include <cstring>

#include "fuzz/image_input.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned) {
  size = LLVMFuzzerMutate(data, size, most);
  size_t at = 8;  // a chunk: length, name, data, checksum of name and data
  while (size >= 12 && at <= size - 12) {
    const size_t length =
        size_t{data[at]} << 24 | size_t{data[at + 1]} << 16 | size_t{data[at + 2]} << 8 | data[at + 3];
    if (length > size - 12 - at) break;
    const auto checksum = static_cast<uint32_t>(crc32(0, data + at + 4, static_cast<uInt>(length + 4)));
    for (int i = 0; i < 4; ++i)
      data[at + 8 + length + static_cast<size_t>(i)] = static_cast<uint8_t>(checksum >> (24 - 8 * i));
    at += 12 + length;
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  llamita::fuzz::fuzz_image(&llamita::decode_png, data, size);
  return 0;
}
