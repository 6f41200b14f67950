#include "image/orientation.h"

#include <gtest/gtest.h>

#include <string>

#include "support/golden_image.h"

namespace llamita {
namespace {

using test::bytes_of;

int orientation(std::string_view exif, std::string_view xmp = {}) {
  return read_orientation(bytes_of(exif), xmp);
}

const std::string kLittle("II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 26);
const std::string kBig("MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0", 26);

TEST(Orientation, IsReadInBothByteOrders) {
  EXPECT_EQ(orientation(kLittle), 6);
  EXPECT_EQ(orientation(kBig), 8);
  EXPECT_EQ(orientation(std::string("Exif\0\0", 6) + kLittle), 6);
}

TEST(Orientation, OfBrokenMetadataIsUpright) {
  EXPECT_EQ(orientation(""), 1);
  EXPECT_EQ(orientation("II"), 1);
  EXPECT_EQ(orientation(std::string(26, '\xff')), 1);
  for (size_t size = 0; size < 22; ++size) EXPECT_EQ(orientation(kLittle.substr(0, size)), 1) << size;
  std::string far_away = kLittle;
  far_away.replace(4, 4, "\xf0\xff\xff\xff");
  EXPECT_EQ(orientation(far_away), 1);
  std::string nine = kLittle;
  nine[18] = 9;
  EXPECT_EQ(orientation(nine), 1);
}

TEST(Orientation, XmpIsAskedWhenExifIsSilent) {
  EXPECT_EQ(orientation("", "<a tiff:Orientation=\"3\"/>"), 3);
  EXPECT_EQ(orientation("", "<tiff:Orientation>8</tiff:Orientation>"), 8);
  EXPECT_EQ(orientation("", "tiff:Orientation is a word; tiff:Orientation=\"5\""), 5);
  EXPECT_EQ(orientation(kLittle, "tiff:Orientation=\"3\""), 6);
  EXPECT_EQ(orientation("", "tiff:Orientation=\""), 1);
  EXPECT_EQ(orientation("", "tiff:Orientation=\"9\""), 1);
}

TEST(Orientation, EachTurnsTheImageItsWay) {
  RgbImage image(2, 3);  // a b / c d / e f
  for (int i = 0; i < 6; ++i) image.pixels[static_cast<size_t>(3 * i)] = static_cast<uint8_t>('a' + i);
  const auto turned = [&](int way) {
    const RgbImage out = turn_upright(image, way);
    std::string text;
    for (int y = 0; y < out.height; ++y) {
      if (y > 0) text += '/';
      for (int x = 0; x < out.width; ++x) text += static_cast<char>(out.row(y)[3 * x]);
    }
    return text;
  };
  EXPECT_EQ(turned(1), "ab/cd/ef");
  EXPECT_EQ(turned(2), "ba/dc/fe");
  EXPECT_EQ(turned(3), "fe/dc/ba");
  EXPECT_EQ(turned(4), "ef/cd/ab");
  EXPECT_EQ(turned(5), "ace/bdf");
  EXPECT_EQ(turned(6), "eca/fdb");
  EXPECT_EQ(turned(7), "fdb/eca");
  EXPECT_EQ(turned(8), "bdf/ace");
}

}  // namespace
}  // namespace llamita
