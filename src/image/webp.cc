// WebP through libwebp: lossy, lossless, with or without alpha. Of an animation the first frame, on a black
// canvas where it does not cover it.
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "base/cat.h"
#include "image/codec.h"
#include "image/orientation.h"
#include "llamita/error.h"

namespace llamita {

namespace {

struct DemuxerDelete {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

// The payload of the first chunk of this name, borrowed from the file; empty when there is none.
std::span<const std::byte> chunk_of(const WebPDemuxer* demuxer, const char* name) {
  WebPChunkIterator chunk{};
  std::span<const std::byte> out;
  if (WebPDemuxGetChunk(demuxer, name, 1, &chunk) != 0) {
    out = {reinterpret_cast<const std::byte*>(chunk.chunk.bytes), chunk.chunk.size};
  }
  WebPDemuxReleaseChunkIterator(&chunk);
  return out;
}

bool decode_first_frame(const WebPDemuxer* demuxer, RgbImage& canvas) {
  WebPIterator frame{};
  bool decoded = false;
  if (WebPDemuxGetFrame(demuxer, 1, &frame) != 0 && frame.complete != 0 && frame.x_offset >= 0 &&
      frame.y_offset >= 0 && frame.width <= canvas.width - frame.x_offset &&
      frame.height <= canvas.height - frame.y_offset) {
    const size_t start = size_t{3} * canvas.width * frame.y_offset + size_t{3} * frame.x_offset;
    decoded = WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, canvas.pixels.data() + start,
                                canvas.pixels.size() - start, 3 * canvas.width) != nullptr;
  }
  WebPDemuxReleaseIterator(&frame);
  return decoded;
}

}  // namespace

DecodedImage decode_webp(std::span<const std::byte> bytes, const std::string& source,
                         const ImageLimits& limits) {
  const WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  const std::unique_ptr<WebPDemuxer, DemuxerDelete> demuxer(WebPDemux(&data));
  if (!demuxer) throw Error(cat(source, ": a broken WebP, its chunks are damaged or end early"));
  const uint32_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const uint32_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  check_image_size(width, height, source, limits);
  DecodedImage out{RgbImage(static_cast<int>(width), static_cast<int>(height))};
  if (!decode_first_frame(demuxer.get(), out.image)) {
    throw Error(cat(source, ": a broken WebP, its pixels do not decode"));
  }
  const auto xmp = chunk_of(demuxer.get(), "XMP ");
  out.orientation = read_orientation(chunk_of(demuxer.get(), "EXIF"),
                                     {reinterpret_cast<const char*>(xmp.data()), xmp.size()});
  return out;
}

}  // namespace llamita
