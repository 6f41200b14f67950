// What decode.cc asks of each format's file: decode_png, decode_jpeg, decode_webp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "image/image.h"

namespace llamita {

struct DecodedImage {
  RgbImage image;       // as stored
  int orientation = 1;  // EXIF's: how to turn it upright, see orientation.h
};

// Each checks the header against `limits` before it decodes and throws Error as decode_image says.
DecodedImage decode_png(std::span<const std::byte> bytes, const std::string& source,
                        const ImageLimits& limits);
DecodedImage decode_jpeg(std::span<const std::byte> bytes, const std::string& source,
                         const ImageLimits& limits);
DecodedImage decode_webp(std::span<const std::byte> bytes, const std::string& source,
                         const ImageLimits& limits);

// Throws Error when an image of this size has no pixels or too many.
void check_image_size(int64_t width, int64_t height, const std::string& source, const ImageLimits& limits);

}  // namespace llamita
