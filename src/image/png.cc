// PNG through libpng, without its colour transforms: rows come as they are stored and are made RGB here, by
// Pillow's rules. libpng leaves a failing call by longjmp, so each step below that calls it sets the jump's
// target itself and keeps nothing that would need destroying; buffers belong to the object or the caller.
#include <png.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csetjmp>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/cat.h"
#include "image/codec.h"
#include "image/orientation.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// Text and EXIF chunks are small; libpng is told to drop larger ones and more of them.
constexpr png_alloc_size_t kMostChunkBytes = 1 << 20;
constexpr png_uint_32 kMostChunks = 32;
// Chunks that change no pixel here, some of them costly to unpack.
constexpr png_byte kUnread[] = "iCCP\0sPLT\0hIST\0sCAL\0pCAL";

uint32_t big_endian(std::span<const std::byte> bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint32_t>(bytes[at + i]);
  return value;
}

// The signature and the chunks that are there to their end. libpng allocates what a chunk's length says
// before it reads, so it is not shown a chunk whose length is not true.
std::span<const std::byte> whole_chunks(std::span<const std::byte> bytes) {
  size_t at = 8;
  while (bytes.size() - at >= 12) {  // length, name, checksum
    const size_t length = big_endian(bytes, at);
    if (length > bytes.size() - at - 12) {
      const bool pixels = std::memcmp(bytes.data() + at + 4, "IDAT", 4) == 0;  // unpacked as they come
      return pixels ? bytes : bytes.first(at);
    }
    at += 12 + length;
  }
  return bytes.first(at);
}

class PngFile {
 public:
  PngFile(std::span<const std::byte> bytes, const std::string& source) : bytes_(bytes), source_(source) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &PngFile::fail, &PngFile::ignore);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Error(cat(source_, ": libpng cannot start (", PNG_LIBPNG_VER_STRING, " expected)"));
    }
    png_set_read_fn(png_, this, &PngFile::read);
  }
  ~PngFile() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngFile(const PngFile&) = delete;
  PngFile& operator=(const PngFile&) = delete;

  DecodedImage decode(int width, int height) {
    if (!read_header()) broken(ran_out_ ? "its header ends early" : "its header does not decode");
    DecodedImage out{RgbImage(width, height)};
    // An interlaced image fills its rows in seven passes, so all of them are kept; else one is enough.
    std::vector<uint8_t> rows(row_bytes_ * static_cast<size_t>(passes_ > 1 ? height : 1));
    if (!read_rows(out.image, rows.data()))
      broken(ran_out_ ? "its pixels end early" : "its pixels do not decode");
    read_end();
    out.image.transparent = transparent_;
    out.orientation = orientation();
    return out;
  }

 private:
  static void read(png_structp png, png_bytep out, size_t n) {
    auto* self = static_cast<PngFile*>(png_get_io_ptr(png));
    if (n > self->bytes_.size() - self->offset_) {
      self->ran_out_ = true;
      png_error(png, "");
    }
    std::memcpy(out, self->bytes_.data() + self->offset_, n);
    self->offset_ += n;
  }
  [[noreturn]] static void fail(png_structp png, png_const_charp) { png_longjmp(png, 1); }
  static void ignore(png_structp, png_const_charp) {}

  [[noreturn]] void broken(std::string_view what) const {
    throw Error(cat(source_, ": a broken PNG, ", what));
  }

  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);  // checked before; libpng's own are other numbers
    png_set_chunk_malloc_max(png_, kMostChunkBytes);
    png_set_chunk_cache_max(png_, kMostChunks);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kUnread, sizeof kUnread / 5);
    png_set_benign_errors(png_, 1);  // a palette index too high, a bad checksum of a comment: read on
    png_read_info(png_, info_);
    color_ = png_get_color_type(png_, info_);
    depth_ = png_get_bit_depth(png_, info_);
    png_colorp palette = nullptr;
    int colors = 0;
    if (color_ == PNG_COLOR_TYPE_PALETTE && png_get_PLTE(png_, info_, &palette, &colors) != 0) {
      std::copy_n(palette, std::min(colors, 256), palette_.begin());
    }
    read_transparent();
    png_set_packing(png_);  // 1, 2 and 4 bits become a byte each, not scaled
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    row_bytes_ = png_get_rowbytes(png_, info_);
    return true;
  }

  // The colour that tRNS makes transparent, as Pillow understands it: of a palette only when it is the one
  // entry that is not opaque; samples of other depths than 8 are compared unscaled, by their low byte, and
  // those of its modes "1" and "I;16" as if they were red alone.
  void read_transparent() {
    png_bytep alphas = nullptr;
    png_color_16p key = nullptr;
    int count = 0;
    if (png_get_tRNS(png_, info_, &alphas, &count, &key) == 0) return;
    const auto low = [](int sample) { return static_cast<uint8_t>(sample & 0xff); };
    if (color_ == PNG_COLOR_TYPE_PALETTE) {
      const png_bytep end = alphas + count;
      const png_bytep clear = std::find_if(alphas, end, [](png_byte alpha) { return alpha != 255; });
      if (clear == end || *clear != 0) return;
      if (std::any_of(clear + 1, end, [](png_byte alpha) { return alpha != 255; })) return;
      const png_color& color = palette_[static_cast<size_t>(clear - alphas)];
      transparent_ = {color.red, color.green, color.blue};
    } else if (color_ == PNG_COLOR_TYPE_RGB) {
      transparent_ = {low(key->red), low(key->green), low(key->blue)};
    } else if (depth_ == 16) {
      transparent_ = {low(key->gray), 0, 0};
    } else if (depth_ == 1) {
      transparent_ = {static_cast<uint8_t>(key->gray != 0 ? 255 : 0), 0, 0};
    } else {
      const auto grey = static_cast<uint8_t>(std::min<int>(key->gray, 255));
      transparent_ = {grey, grey, grey};
    }
  }

  bool read_rows(RgbImage& image, uint8_t* rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    for (int pass = 0; pass < passes_; ++pass) {
      for (int y = 0; y < image.height; ++y) {
        uint8_t* row = rows + (passes_ > 1 ? row_bytes_ * static_cast<size_t>(y) : 0);
        png_read_row(png_, row, nullptr);
        if (pass == passes_ - 1) to_rgb(row, image.row(y), image.width);
      }
    }
    return true;
  }

  // Chunks behind the pixels may hold the orientation; when they are broken, the image is none the worse.
  void read_end() {
    if (setjmp(png_jmpbuf(png_)) != 0) return;
    png_read_end(png_, info_);
  }

  void to_rgb(const uint8_t* from, uint8_t* to, int width) const {
    const bool wide = depth_ == 16;
    const int step = png_get_channels(png_, info_) * (wide ? 2 : 1);
    const int grey_scale = depth_ < 8 ? 255 / ((1 << depth_) - 1) : 1;
    for (int x = 0; x < width; ++x, from += step, to += 3) {
      if (color_ == PNG_COLOR_TYPE_PALETTE) {
        const png_color& color = palette_[from[0]];
        to[0] = color.red;
        to[1] = color.green;
        to[2] = color.blue;
      } else if ((color_ & PNG_COLOR_MASK_COLOR) != 0) {
        for (int c = 0; c < 3; ++c) to[c] = from[wide ? 2 * c : c];  // big-endian: the high byte comes first
      } else {
        int grey = from[0] * grey_scale;
        // Pillow clips grey without alpha (its mode I;16) and takes the high byte of grey with alpha.
        if (wide && color_ == PNG_COLOR_TYPE_GRAY) grey = from[0] == 0 ? from[1] : 255;
        std::fill_n(to, 3, static_cast<uint8_t>(grey));
      }
    }
  }

  int orientation() const {
    png_uint_32 exif_size = 0;
    png_bytep exif = nullptr;
    std::vector<std::byte> profile;
    std::string_view xmp;
    png_textp texts = nullptr;
    const int count = png_get_text(png_, info_, &texts, nullptr);
    for (int i = 0; i < count; ++i) {
      const std::string_view key = texts[i].key;
      const bool international = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE;
      const std::string_view text(texts[i].text, international ? texts[i].itxt_length : texts[i].text_length);
      if (key == "XML:com.adobe.xmp") xmp = text;
      if (key == "Raw profile type exif") profile = unhex_profile(text);
    }
    if (png_get_eXIf_1(png_, info_, &exif_size, &exif) != 0) {
      return read_orientation({reinterpret_cast<const std::byte*>(exif), exif_size}, xmp);
    }
    return read_orientation(profile, xmp);
  }

  // ImageMagick's way to store EXIF before there was a chunk for it: a blank line, a name, a size, hex
  // digits.
  static std::vector<std::byte> unhex_profile(std::string_view text) {
    for (int line = 0; line < 3; ++line) {
      const size_t end = text.find('\n');
      if (end == text.npos) return {};
      text.remove_prefix(end + 1);
    }
    std::string digits;
    std::copy_if(text.begin(), text.end(), std::back_inserter(digits), [](char c) { return c != '\n'; });
    std::vector<std::byte> out;
    for (size_t i = 0; i + 1 < digits.size(); i += 2) {
      uint8_t value = 0;
      const char* end = digits.data() + i + 2;
      if (std::from_chars(digits.data() + i, end, value, 16).ptr != end) return {};
      out.push_back(std::byte{value});
    }
    return out;
  }

  std::span<const std::byte> bytes_;
  const std::string& source_;
  size_t offset_ = 0;
  bool ran_out_ = false;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  int color_ = 0;
  int depth_ = 0;
  int passes_ = 1;
  size_t row_bytes_ = 0;
  std::optional<std::array<uint8_t, 3>> transparent_;
  std::array<png_color, 256> palette_{};  // an index that the file defines no colour for is black
};

}  // namespace

DecodedImage decode_png(std::span<const std::byte> bytes, const std::string& source,
                        const ImageLimits& limits) {
  // 8 bytes of signature, then the first chunk: length, "IHDR", width, height.
  if (bytes.size() < 33 || std::memcmp(bytes.data() + 12, "IHDR", 4) != 0) {
    throw Error(cat(source, ": a broken PNG, its header is not there"));
  }
  const uint32_t width = big_endian(bytes, 16);
  const uint32_t height = big_endian(bytes, 20);
  check_image_size(width, height, source, limits);
  return PngFile(whole_chunks(bytes), source).decode(static_cast<int>(width), static_cast<int>(height));
}

}  // namespace llamita
