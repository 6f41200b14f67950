#include "image/decode.h"

#include <cstring>
#include <string_view>

#include "base/cat.h"
#include "base/mapped_file.h"
#include "image/codec.h"
#include "image/orientation.h"
#include "llamita/error.h"

namespace llamita {

namespace {

bool has_at(std::span<const std::byte> bytes, size_t offset, std::string_view magic) {
  return bytes.size() >= offset + magic.size() &&
         std::memcmp(bytes.data() + offset, magic.data(), magic.size()) == 0;
}

}  // namespace

void check_image_size(int64_t width, int64_t height, const std::string& source, const ImageLimits& limits) {
  if (width < 1 || height < 1) throw Error(cat(source, ": the image is ", width, " x ", height, " pixels"));
  if (width > limits.side || height > limits.side) {
    throw Error(cat(source, ": the image is ", width, " x ", height, " pixels, and a side may have at most ",
                    limits.side, ": make it smaller"));
  }
  if (width * height > limits.pixels) {
    throw Error(cat(source, ": the image has ", width * height, " pixels (", width, " x ", height,
                    "), and at most ", limits.pixels, " are taken: make it smaller"));
  }
}

RgbImage decode_image(std::span<const std::byte> bytes, const std::string& source,
                      const ImageLimits& limits) {
  if (bytes.size() > limits.bytes) {
    throw Error(cat(source, ": the image file has ", bytes.size(), " bytes, and at most ", limits.bytes,
                    " are taken"));
  }
  DecodedImage decoded;
  if (has_at(bytes, 0, "\x89PNG\r\n\x1a\n")) {
    decoded = decode_png(bytes, source, limits);
  } else if (has_at(bytes, 0, "\xff\xd8\xff")) {
    decoded = decode_jpeg(bytes, source, limits);
  } else if (has_at(bytes, 0, "RIFF") && has_at(bytes, 8, "WEBP")) {
    decoded = decode_webp(bytes, source, limits);
  } else {
    throw Error(cat(source, ": no PNG, JPEG or WebP image", bytes.empty() ? " (it is empty)" : "",
                    ": convert it to one of these"));
  }
  return turn_upright(std::move(decoded.image), decoded.orientation);
}

RgbImage load_image(const std::string& path, const ImageLimits& limits) {
  const MappedFile file(path);
  return decode_image(file.bytes(), path, limits);
}

}  // namespace llamita
