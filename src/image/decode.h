// PNG, JPEG and WebP files to RGB, as transformers' load_image does through Pillow: turned upright by the
// EXIF (or XMP) orientation, alpha dropped and not blended, 16-bit colour cut to its high byte, 16-bit grey
// clipped at 255, CMYK taken as Adobe writes it (inverted) and multiplied out without a colour profile. Of an
// animation the first picture.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "image/image.h"

namespace llamita {

// `bytes` is a whole file; `source` names it in errors. The format is told by the first bytes. Throws Error
// when it is none of the three, exceeds `limits`, or is broken; nothing in the bytes can do worse.
// Thread-safe.
RgbImage decode_image(std::span<const std::byte> bytes, const std::string& source,
                      const ImageLimits& limits = {});

// The same for a file on disk.
RgbImage load_image(const std::string& path, const ImageLimits& limits = {});

}  // namespace llamita
