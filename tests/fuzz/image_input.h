// What the image fuzz targets share: small limits, so that no input takes long, and what must hold of
// an image that decodes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"
#include "image/codec.h"
#include "image/orientation.h"
#include "image/processor.h"
#include "llamita/error.h"

namespace llamita::fuzz {

using Decode = DecodedImage(std::span<const std::byte>, const std::string&, const ImageLimits&);

inline constexpr ImageLimits kImageLimits{.bytes = 1 << 16, .pixels = 1 << 15, .side = 1 << 10};

inline void check_image(const RgbImage& image) {
  const auto pixels = static_cast<int64_t>(image.width) * image.height;
  LLAMITA_CHECK(pixels >= 1 && pixels <= kImageLimits.pixels, "more pixels than allowed");
  LLAMITA_CHECK(image.pixels.size() == static_cast<size_t>(3 * pixels), "size and pixels differ");
  ImageProcessorConfig config;
  config.pad_to_square = true;
  config.size = {ResizeRule::Kind::shortest_edge, 24, 0};
  config.crop_height = config.crop_width = 20;
  for (const float value : process_image(image, config).values) {
    LLAMITA_CHECK(std::isfinite(value), "a value that is no number");
  }
}

inline void fuzz_image(Decode* decode, const uint8_t* data, size_t size) {
  try {
    const DecodedImage decoded = decode(std::as_bytes(std::span(data, size)), "input", kImageLimits);
    LLAMITA_CHECK(decoded.orientation >= 1 && decoded.orientation <= 8, "no such orientation");
    check_image(turn_upright(decoded.image, decoded.orientation));
  } catch (const Error&) {
  }
}

}  // namespace llamita::fuzz
