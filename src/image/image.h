// An image in memory, and how large one may be before a decoder is let at it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace llamita {

struct RgbImage {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;  // (H, W, 3)
  // A colour (R, G, B) that the file declares transparent. Alpha channels are dropped by transformers'
  // load_image, but such a colour lives on in it until its processors lay it on white; so it does here.
  std::optional<std::array<uint8_t, 3>> transparent;

  RgbImage() = default;
  RgbImage(int w, int h) : width(w), height(h), pixels(size_t{3} * w * h) {}  // black

  uint8_t* row(int y) { return pixels.data() + size_t{3} * width * y; }              // (W, 3)
  const uint8_t* row(int y) const { return pixels.data() + size_t{3} * width * y; }  // (W, 3)
};

// A few kilobytes can decode to gigabytes, so the header is held against these before any pixel is decoded.
// The defaults take what a phone's camera makes; decoding needs at most about 11 bytes a pixel (an interlaced
// PNG of 16-bit RGBA, a progressive CMYK JPEG), 185 MB.
struct ImageLimits {
  size_t bytes = size_t{16} << 20;
  int64_t pixels = int64_t{1} << 24;
  int side = 8192;
};

}  // namespace llamita
