#include "image/decode.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>

#include "support/expect_error.h"
#include "support/golden_image.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

using test::bytes_of;
using test::golden;

RgbImage decode(std::string_view bytes, const ImageLimits& limits = {}) {
  return decode_image(bytes_of(bytes), "a file", limits);
}

// A decoder must answer any bytes with an image or an Error; true for an image.
bool decodes(std::string_view bytes) {
  try {
    const RgbImage image = decode(bytes, {.bytes = 1 << 20, .pixels = 1 << 20, .side = 1 << 12});
    EXPECT_EQ(image.pixels.size(), size_t{3} * image.width * image.height);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("a file: "), 0U) << error.what();
    return false;
  }
}

// The JPEG library of the machine may be another version than the reference's: one step of 255 is allowed.
TEST(Decode, EveryKindOfFileHasTheReferencesPixels) {
  const auto goldens = test::image_goldens("pixels.");
  EXPECT_EQ(goldens.size(), test::golden_image_names().size());
  EXPECT_GE(goldens.size(), 40U);
  for (const auto& expected : goldens) {
    SCOPED_TRACE(expected.name);
    const RgbImage image = decode(golden("image/files/" + expected.name));
    ASSERT_EQ(image.width, expected.width);
    ASSERT_EQ(image.height, expected.height);
    int worst = 0;
    for (size_t i = 0; i < image.pixels.size(); ++i) {
      worst = std::max(worst, std::abs(int{image.pixels[i]} - int{expected.pixels[i]}));
    }
    EXPECT_LE(worst, expected.name.ends_with(".jpg") ? 1 : 0);
  }
}

TEST(Decode, ASingleTransparentColourIsRemembered) {
  EXPECT_EQ(decode(golden("image/files/rgb8_key.png")).transparent, (std::array<uint8_t, 3>{1, 2, 2}));
  EXPECT_TRUE(decode(golden("image/files/palette8_key.png")).transparent);
  EXPECT_FALSE(decode(golden("image/files/palette4_alpha.png")).transparent);
  EXPECT_FALSE(decode(golden("image/files/rgb8.png")).transparent);
}

TEST(Decode, FilesComeFromDiskToo) {
  EXPECT_EQ(load_image(test::golden_path("image/files/rgb8.png")).width, 13);
  EXPECT_ERROR(load_image(test::golden_path("image/files/none.png")), "none.png");
}

TEST(Decode, OtherFilesAreRefusedByWhatTheyAre) {
  EXPECT_ERROR(decode(""), "no PNG, JPEG or WebP image (it is empty)");
  EXPECT_ERROR(decode("GIF89a........"), "no PNG, JPEG or WebP image: convert it");
  EXPECT_ERROR(decode("RIFF\x10\0\0\0WAVE"), "no PNG, JPEG or WebP");
}

TEST(Decode, TooManyBytesOrPixelsAreRefusedBeforeDecoding) {
  for (const std::string name :
       {"rgb8.png", "rgb_420.jpg", "progressive_420.jpg", "lossy.webp", "lossless.webp", "animated.webp"}) {
    SCOPED_TRACE(name);
    const std::string file = golden("image/files/" + name);  // 13 x 9
    EXPECT_ERROR(decode(file, {.bytes = file.size() - 1}), "at most");
    EXPECT_ERROR(decode(file, {.pixels = 116}), "has 117 pixels (13 x 9), and at most 116");
    EXPECT_ERROR(decode(file, {.side = 12}), "a side may have at most 12");
    EXPECT_EQ(decode(file, {.bytes = file.size(), .pixels = 117, .side = 13}).width, 13);
    EXPECT_EQ(decode(file, {.bytes = file.size() + 1, .pixels = 118, .side = 14}).width, 13);
  }
}

// 16 Mpx from a few bytes: the header alone decides. A file of 100000 x 100000 pixels would be 28 GiB.
TEST(Decode, BombsAreRefusedByTheirHeader) {
  std::string png = golden("image/files/rgb8.png");
  const std::string_view huge("\0\x01\x86\xa0\0\x01\x86\xa0", 8);
  png.replace(16, huge.size(), huge);
  EXPECT_ERROR(decode(png), "is 100000 x 100000 pixels");
  std::string jpeg = golden("image/files/grey.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, jpeg.npos);
  jpeg.replace(frame + 5, 4, "\xff\xdc\xff\xdc");
  EXPECT_ERROR(decode(jpeg), "is 65500 x 65500 pixels");
}

// The limits of a file that nobody set others for. The pixels are not there; what is wanted is that the
// header lets them be looked for.
TEST(Decode, TheDefaultLimits) {
  const auto header_taken = [](uint32_t width, uint32_t height, const ImageLimits& limits) {
    std::string png = golden("image/files/rgb8.png");
    for (int i = 0; i < 4; ++i) {
      png[static_cast<size_t>(16 + i)] = static_cast<char>(width >> (24 - 8 * i));
      png[static_cast<size_t>(20 + i)] = static_cast<char>(height >> (24 - 8 * i));
    }
    try {
      decode(png, limits);
    } catch (const Error& error) {
      return std::string_view(error.what()).find("make it smaller") == std::string_view::npos;
    }
    return true;
  };
  for (const uint32_t side : {8191u, 8192u, 8193u}) {
    EXPECT_EQ(header_taken(side, 1, {}), side <= 8192) << side;
    EXPECT_EQ(header_taken(1, side, {}), side <= 8192) << side;
  }
  const ImageLimits long_sides{.side = 1 << 15};
  EXPECT_TRUE(header_taken(4095, 4097, {}));  // 2^24 - 1
  EXPECT_TRUE(header_taken(4096, 4096, {}));
  EXPECT_FALSE(header_taken(24929, 673, long_sides));  // 2^24 + 1
}

// Nor is the length of a chunk believed: this one says 640 MiB, which must not be asked of the system.
TEST(Decode, AChunkLongerThanItsFileIsTheFilesEnd) {
  std::string png = golden("image/files/profile6.png");
  png.replace(png.find("zTXt") - 4, 4, std::string("\x28\0\0\0", 4));
  EXPECT_ERROR(decode(png), "a broken PNG, its header ends early");
}

TEST(Decode, FilesThatEndEarlyAreErrors) {
  for (const std::string& name : test::golden_image_names()) {
    SCOPED_TRACE(name);
    const std::string file = golden("image/files/" + name);
    EXPECT_TRUE(decodes(file));
    for (size_t size = 0; size < file.size(); size += 1 + size / 16) decodes(file.substr(0, size));
    EXPECT_FALSE(decodes(file.substr(0, file.size() / 2)));
  }
  EXPECT_ERROR(decode(golden("image/files/rgb8.png").substr(0, 300)), "a broken PNG, its pixels end early");
  EXPECT_ERROR(decode(golden("image/files/rgb_420.jpg").substr(0, 300)),
               "a broken JPEG, its header ends early");
  EXPECT_ERROR(decode(golden("image/files/lossy.webp").substr(0, 100)), "a broken WebP");
}

TEST(Decode, DamagedFilesAreErrorsOrImages) {
  std::mt19937 random(1);
  for (const std::string& name : test::golden_image_names()) {
    const std::string file = golden("image/files/" + name);
    for (int i = 0; i < 150; ++i) {
      std::string damaged = file;
      for (int n = 1 + i % 3; n > 0; --n) damaged[random() % file.size()] = static_cast<char>(random());
      decodes(damaged);
    }
  }
}

// One grey 8 x 8 block and as many empty scans as are asked for.
std::string jpeg_of_scans(int scans) {
  std::string jpeg("\xff\xd8", 2);
  jpeg += std::string("\xff\xdb\0\x43\0", 5) + std::string(64, '\1');
  jpeg += std::string("\xff\xc2\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0", 13);
  jpeg += std::string("\xff\xc4\0\x14\0\x01", 6) + std::string(15, '\0') + std::string(1, '\0');
  const std::string scan("\xff\xda\0\x08\x01\x01\0\0\0\0\x7f", 11);
  for (int i = 0; i < scans; ++i) jpeg += scan;
  return jpeg + std::string("\xff\xd9", 2);
}

TEST(Decode, ScansWithoutEndAreRefused) {
  EXPECT_EQ(decode(jpeg_of_scans(10)).width, 8);
  EXPECT_ERROR(decode(jpeg_of_scans(1000)), "more than 50 scans");
}

}  // namespace
}  // namespace llamita
