// JPEG through libjpeg-turbo: baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK. The library leaves a
// failing call by longjmp, so each step below that calls it sets the jump's target itself and keeps nothing
// that would need destroying; buffers belong to the object or the caller.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include <jpeglib.h>  // needs <cstddef> and <cstdio> before it

#include "base/cat.h"
#include "image/codec.h"
#include "image/orientation.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// Each scan of a progressive file walks the whole image however few bytes it has; encoders write about ten.
constexpr int kMostScans = 50;
constexpr std::string_view kExif("Exif\0\0", 6);
constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);

// a * b / 255, rounded: Pillow's arithmetic.
int multiply_255(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Adobe stores inks inverted, and Pillow takes every CMYK file for Adobe's: `inks` is 255 less each ink.
void cmyk_to_rgb(const uint8_t* inks, uint8_t* rgb, int width) {
  for (int x = 0; x < width; ++x, inks += 4, rgb += 3) {
    const int white = inks[3];
    for (int c = 0; c < 3; ++c) rgb[c] = static_cast<uint8_t>(white - multiply_255(255 - inks[c], white));
  }
}

class JpegFile {
 public:
  JpegFile(std::span<const std::byte> bytes, const std::string& source) : bytes_(bytes), source_(source) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = &JpegFile::fail;
    errors_.emit_message = [](j_common_ptr, int) {
    };  // damage that the library mends: the pixels are as it says
    errors_.output_message = [](j_common_ptr) {};
    info_.client_data = this;
  }
  ~JpegFile() { jpeg_destroy_decompress(&info_); }
  JpegFile(const JpegFile&) = delete;
  JpegFile& operator=(const JpegFile&) = delete;

  DecodedImage decode(const ImageLimits& limits) {
    if (!read_header()) broken(ran_out_ ? "its header ends early" : "its header does not decode");
    check_image_size(info_.image_width, info_.image_height, source_, limits);
    if (info_.data_precision != 8) {
      throw Error(cat(source_, ": the JPEG has ", info_.data_precision, " bits a sample; 8 are read"));
    }
    switch (info_.num_components) {
      case 1: info_.out_color_space = JCS_GRAYSCALE; break;
      case 3: info_.out_color_space = JCS_RGB; break;
      case 4: info_.out_color_space = JCS_CMYK; break;
      default:
        throw Error(cat(source_, ": the JPEG has ", info_.num_components, " components; 1, 3 or 4 are read"));
    }
    const int orientation = this->orientation();  // before decoding, while the markers are there
    DecodedImage out{RgbImage(static_cast<int>(info_.image_width), static_cast<int>(info_.image_height)),
                     orientation};
    std::vector<uint8_t> row(size_t{4} * info_.image_width);
    if (!read_rows(out.image, row.data()))
      broken(ran_out_ ? "its pixels end early" : "its pixels do not decode");
    return out;
  }

 private:
  static JpegFile& self(j_common_ptr info) { return *static_cast<JpegFile*>(info->client_data); }
  static JpegFile& self(j_decompress_ptr info) { return self(reinterpret_cast<j_common_ptr>(info)); }

  [[noreturn]] static void fail(j_common_ptr info) { std::longjmp(self(info).failed_, 1); }
  [[noreturn]] void end_early() {
    ran_out_ = true;
    std::longjmp(failed_, 1);
  }

  [[noreturn]] void broken(std::string_view what) const {
    if (too_many_scans_) throw Error(cat(source_, ": the JPEG has more than ", kMostScans, " scans"));
    throw Error(cat(source_, ": a broken JPEG, ", what));
  }

  // All of the file is in the buffer: a request for more is its end.
  void set_source() {
    source_manager_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes_.data());
    source_manager_.bytes_in_buffer = bytes_.size();
    source_manager_.init_source = [](j_decompress_ptr) {};
    source_manager_.fill_input_buffer = [](j_decompress_ptr info) -> boolean { self(info).end_early(); };
    source_manager_.skip_input_data = [](j_decompress_ptr info, long n) {
      if (n <= 0) return;
      if (static_cast<size_t>(n) > info->src->bytes_in_buffer) self(info).end_early();
      info->src->next_input_byte += n;
      info->src->bytes_in_buffer -= static_cast<size_t>(n);
    };
    source_manager_.resync_to_restart = &jpeg_resync_to_restart;
    source_manager_.term_source = [](j_decompress_ptr) {};
    info_.src = &source_manager_;
  }

  bool read_header() {
    if (setjmp(failed_) != 0) return false;
    jpeg_create_decompress(&info_);
    set_source();
    progress_.progress_monitor = [](j_common_ptr info) {
      if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostScans) return;
      self(info).too_many_scans_ = true;
      fail(info);
    };
    info_.progress = &progress_;
    jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xffff);
    return jpeg_read_header(&info_, TRUE) == JPEG_HEADER_OK;
  }

  // `row` has room for one row of four components.
  bool read_rows(RgbImage& image, uint8_t* row) {
    if (setjmp(failed_) != 0) return false;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      uint8_t* to = image.row(static_cast<int>(info_.output_scanline));
      uint8_t* read_to = info_.out_color_space == JCS_RGB ? to : row;
      jpeg_read_scanlines(&info_, &read_to, 1);
      if (info_.out_color_space == JCS_CMYK) cmyk_to_rgb(row, to, image.width);
      if (info_.out_color_space == JCS_GRAYSCALE) {
        for (int x = 0; x < image.width; ++x) to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = row[x];
      }
    }
    return true;
  }

  int orientation() const {
    std::vector<std::byte> exif;  // may go on over several markers
    std::string_view xmp;
    for (auto* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
      const auto* data = reinterpret_cast<const std::byte*>(marker->data);
      const std::string_view text(reinterpret_cast<const char*>(data), marker->data_length);
      if (text.starts_with(kExif)) exif.insert(exif.end(), data + kExif.size(), data + text.size());
      if (text.starts_with(kXmp)) xmp = text.substr(kXmp.size());
    }
    return read_orientation(exif, xmp);
  }

  std::span<const std::byte> bytes_;
  const std::string& source_;
  bool ran_out_ = false;
  bool too_many_scans_ = false;
  std::jmp_buf failed_;
  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_manager_{};
  jpeg_progress_mgr progress_{};
};

}  // namespace

DecodedImage decode_jpeg(std::span<const std::byte> bytes, const std::string& source,
                         const ImageLimits& limits) {
  return JpegFile(bytes, source).decode(limits);
}

}  // namespace llamita
