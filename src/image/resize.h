// Antialiased resizing, equal to Pillow 13's Image.resize bit for bit: a separable filter, widened by the
// factor of shrinking, in fixed point with 22 fractional bits, rounded to 8 bits between the passes.
#pragma once

#include <array>
#include <cstdint>

#include "image/image.h"

namespace llamita {

// Pillow's numbers, which is what a preprocessor_config.json holds.
enum class Resample { nearest = 0, lanczos = 1, bilinear = 2, bicubic = 3, box = 4, hamming = 5 };

// An image on a larger ground of one colour, which is never made.
struct Canvas {
  const RgbImage* image = nullptr;  // borrowed
  int width = 0;
  int height = 0;
  int left = 0;  // where the image lies on it
  int top = 0;
  std::array<uint8_t, 3> ground{};  // R, G, B

  static Canvas of(const RgbImage& image) { return {&image, image.width, image.height}; }
};

struct Window {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
};

// What `window` shows of the canvas resized to width x height. Only that is computed, so a thin strip blown
// up to be cropped costs no more than its own pixels. `window` must lie inside (checked). Memory between the
// passes: 3 bytes for each row of the canvas and column of the window, or the other way round.
RgbImage resize(const Canvas& canvas, int width, int height, Resample resample, const Window& window);

// The whole of it.
RgbImage resize(const RgbImage& image, int width, int height, Resample resample);

}  // namespace llamita
