// Which way up a photograph is. Cameras store the sensor's rows as they are and say in EXIF, editors in XMP,
// how to turn them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "image/image.h"

namespace llamita {

// The orientation that the metadata names, 1 to 8; 1 (upright) when neither does or what is there is broken.
// `exif` is a TIFF structure, with or without "Exif\0\0" before it; `xmp` is asked when `exif` is silent.
int read_orientation(std::span<const std::byte> exif, std::string_view xmp);

// Turns an image of this orientation upright: 2 mirrored, 3 upside down, 4 flipped, 5 transposed, 6 needs a
// quarter turn clockwise, 7 transposed the other way, 8 needs one counterclockwise. Others stay as they are.
RgbImage turn_upright(RgbImage image, int orientation);

}  // namespace llamita
