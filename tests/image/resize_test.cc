#include "image/resize.h"

#include <gtest/gtest.h>

#include <charconv>
#include <random>
#include <string>

#include "image/decode.h"
#include "support/golden_image.h"

namespace llamita {
namespace {

constexpr Resample kAll[] = {Resample::nearest, Resample::lanczos, Resample::bilinear,
                             Resample::bicubic, Resample::box,     Resample::hamming};

RgbImage random_image(int width, int height, unsigned seed) {
  RgbImage image(width, height);
  std::mt19937 random(seed);
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random());
  return image;
}

TEST(Resize, EveryFilterHasTheReferencesPixels) {
  const auto goldens = test::image_goldens("resized.");
  EXPECT_EQ(goldens.size(), 24U);
  for (const auto& expected : goldens) {  // named FILTER.WxH.FILE
    SCOPED_TRACE(expected.name);
    const std::string file = expected.name.substr(expected.name.find('.', 2) + 1);
    const RgbImage image = load_image(test::golden_path("image/files/" + file));
    const auto resample = static_cast<Resample>(expected.name[0] - '0');
    EXPECT_EQ(resize(image, expected.width, expected.height, resample).pixels, expected.pixels);
  }
}

TEST(Resize, AWindowIsACutOfTheWhole) {
  const RgbImage image = random_image(19, 40, 1);
  for (const Resample resample : kAll) {
    for (const auto& [width, height] :
         {std::pair{50, 23}, {7, 80}, {12, 9}, {19, 40}}) {  // both orders of passes
      SCOPED_TRACE(testing::Message() << static_cast<int>(resample) << ": " << width << " x " << height);
      const RgbImage whole = resize(image, width, height, resample);
      const Window window{width / 3, height / 4, width / 2, height / 3};
      const RgbImage part = resize(Canvas::of(image), width, height, resample, window);
      for (int y = 0; y < window.height; ++y) {
        const uint8_t* from = whole.row(window.top + y) + 3 * window.left;
        ASSERT_TRUE(std::equal(from, from + 3 * window.width, part.row(y))) << y;
      }
    }
  }
}

TEST(Resize, ACanvasIsAsIfItWerePainted) {
  const RgbImage image = random_image(6, 11, 2);
  const Canvas canvas{&image, 15, 13, 4, 1, {10, 200, 30}};
  RgbImage painted(15, 13);
  for (size_t i = 0; i < painted.pixels.size(); ++i) painted.pixels[i] = canvas.ground[i % 3];
  for (int y = 0; y < image.height; ++y) std::copy_n(image.row(y), 18, painted.row(y + 1) + 12);
  for (const Resample resample : kAll) {
    for (const auto& [width, height] : {std::pair{7, 20}, {14, 5}, {30, 30}}) {
      EXPECT_EQ(resize(canvas, width, height, resample, {0, 0, width, height}).pixels,
                resize(painted, width, height, resample).pixels);
    }
  }
}

TEST(Resize, FlatColoursStayAndOnePixelFillsAll) {
  RgbImage flat(9, 5);
  for (size_t i = 0; i < flat.pixels.size(); ++i) flat.pixels[i] = static_cast<uint8_t>(100 + 50 * (i % 3));
  RgbImage pixel(1, 1);
  pixel.pixels = {100, 150, 200};
  for (const Resample resample : kAll) {
    for (const RgbImage& out : {resize(flat, 4, 17, resample), resize(pixel, 4, 17, resample)}) {
      for (size_t i = 0; i < out.pixels.size(); ++i) ASSERT_EQ(out.pixels[i], 100 + 50 * (i % 3));
    }
  }
}

// The middle of a strip of one pixel blown up 20 million wide: what is not shown is not made.
TEST(Resize, OnlyTheWindowCosts) {
  const RgbImage strip = random_image(1200, 1, 3);
  const RgbImage out =
      resize(Canvas::of(strip), 20'000'000, 16'000, Resample::bicubic, {9'999'990, 7'990, 20, 20});
  EXPECT_EQ(out.pixels[0], out.pixels[3]);
}

}  // namespace
}  // namespace llamita
