#include "image/orientation.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace llamita {

namespace {

constexpr uint16_t kOrientationTag = 0x0112;
constexpr int kMeaningless = 9;  // there is a tag, so XMP is not asked, but its value is none of the eight

// Bounded reads of a TIFF structure in its own byte order; what lies outside reads as 0, which names nothing.
class Tiff {
 public:
  explicit Tiff(std::span<const std::byte> bytes) : bytes_(bytes) {
    if (bytes.size() < 8) return;
    const auto first = static_cast<char>(bytes[0]);
    big_ = first == 'M';
    valid_ = (big_ || first == 'I') && bytes[0] == bytes[1] && u16(2) == 42;
  }

  bool valid() const { return valid_; }
  uint32_t u8(uint64_t at) const { return at < bytes_.size() ? static_cast<uint32_t>(bytes_[at]) : 0; }
  uint32_t u16(uint64_t at) const { return big_ ? u8(at) << 8 | u8(at + 1) : u8(at) | u8(at + 1) << 8; }
  uint32_t u32(uint64_t at) const { return big_ ? u16(at) << 16 | u16(at + 2) : u16(at) | u16(at + 2) << 16; }

 private:
  std::span<const std::byte> bytes_;
  bool big_ = false;
  bool valid_ = false;
};

// The tag's value in the first directory, kMeaningless, or 0 when it is not there. Of several the last, as in
// a dictionary.
int exif_orientation(std::span<const std::byte> exif) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  for (int i = 0; i < 2; ++i) {  // some writers put it twice
    if (exif.size() >= kPrefix.size() && std::memcmp(exif.data(), kPrefix.data(), kPrefix.size()) == 0) {
      exif = exif.subspan(kPrefix.size());
    }
  }
  const Tiff tiff(exif);
  if (!tiff.valid()) return 0;
  const uint64_t directory = tiff.u32(4);
  const uint32_t entries = tiff.u16(directory);
  int value = 0;
  for (uint32_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + uint64_t{12} * i;  // tag, type, count, value
    if (entry + 12 > exif.size()) break;
    if (tiff.u16(entry) != kOrientationTag || tiff.u32(entry + 4) != 1) continue;
    const uint32_t type = tiff.u16(entry + 2);  // SHORT as the standard says, or LONG; nothing else counts
    const uint32_t found = type == 3 ? tiff.u16(entry + 8) : type == 4 ? tiff.u32(entry + 8) : 0;
    value = found >= 1 && found <= 8 ? static_cast<int>(found) : kMeaningless;
  }
  return value;
}

// The digit after tiff:Orientation, which XMP writes as an attribute (=") or an element (>); or 0.
int xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = xmp.find(kName); at != xmp.npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 0;
}

}  // namespace

int read_orientation(std::span<const std::byte> exif, std::string_view xmp) {
  int value = exif_orientation(exif);
  if (value == 0) value = xmp_orientation(xmp);
  return value >= 1 && value <= 8 ? value : 1;
}

RgbImage turn_upright(RgbImage image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool transposed = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  RgbImage out = transposed ? RgbImage(image.height, image.width) : RgbImage(image.width, image.height);
  out.transparent = image.transparent;
  for (int y = 0; y < out.height; ++y) {
    uint8_t* to = out.row(y);
    for (int x = 0; x < out.width; ++x, to += 3) {
      const int column = transposed ? y : x;
      const int line = transposed ? x : y;
      const int from_x = from_right ? image.width - 1 - column : column;
      const int from_y = from_bottom ? image.height - 1 - line : line;
      std::copy_n(image.row(from_y) + 3 * from_x, 3, to);
    }
  }
  return out;
}

}  // namespace llamita
