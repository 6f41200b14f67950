#include "image/processor.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/cat.h"
#include "base/check.h"
#include "llamita/error.h"

namespace llamita {

namespace {

struct Size {
  int64_t height;
  int64_t width;
};

// The quotients below are of integers that doubles hold exactly, so they round as Python's do.
int64_t scaled(int64_t size, int64_t numerator, int64_t denominator) {
  return static_cast<int64_t>(static_cast<double>(size * numerator) / static_cast<double>(denominator));
}

Size bounded_edges(const ResizeRule& rule, int64_t height, int64_t width) {
  const auto shorter = static_cast<double>(std::min(height, width));
  const auto longer = static_cast<double>(std::max(height, width));
  int64_t edge = rule.a;
  double exact = static_cast<double>(rule.a);
  if (longer / shorter * static_cast<double>(rule.a) > static_cast<double>(rule.b)) {
    exact = static_cast<double>(rule.b) * shorter / longer;
    edge = static_cast<int64_t>(std::nearbyint(exact));  // half to even, as Python's round
  }
  if ((height <= width && height == edge) || (width <= height && width == edge)) return {height, width};
  const auto other = [&](int64_t to, int64_t from) {
    return static_cast<int64_t>(exact * static_cast<double>(to) / static_cast<double>(from));
  };
  if (width < height) return {other(height, width), edge};
  return {edge, other(width, height)};
}

Size resized(const ResizeRule& rule, int64_t height, int64_t width) {
  switch (rule.kind) {
    case ResizeRule::Kind::exact: return {rule.a, rule.b};
    case ResizeRule::Kind::shortest_edge:
      if (width <= height) return {scaled(rule.a, height, width), rule.a};
      return {rule.a, scaled(rule.a, width, height)};
    case ResizeRule::Kind::bounded_edges: return bounded_edges(rule, height, width);
    case ResizeRule::Kind::fit: {
      const double scale = std::min(static_cast<double>(rule.a) / static_cast<double>(height),
                                    static_cast<double>(rule.b) / static_cast<double>(width));
      return {static_cast<int64_t>(static_cast<double>(height) * scale),
              static_cast<int64_t>(static_cast<double>(width) * scale)};
    }
  }
  LLAMITA_CHECK(false, "no such rule");
  return {};
}

Canvas square_around(const RgbImage& image, const std::array<double, 3>& mean) {
  Canvas canvas = Canvas::of(image);
  canvas.width = canvas.height = std::max(image.width, image.height);
  canvas.left = (canvas.width - image.width) / 2;
  canvas.top = (canvas.height - image.height) / 2;
  std::transform(mean.begin(), mean.end(), canvas.ground.begin(),
                 [](double x) { return static_cast<uint8_t>(x * 255); });
  return canvas;
}

int64_t floor_half(int64_t n) { return (n - (n < 0 ? 1 : 0)) / 2; }

// The crop's extent on one axis: where it begins on the image (negative: a border comes first), how long it
// is, and the part of it that the image covers.
struct Extent {
  int64_t begin;
  int64_t length;
  int64_t inside_begin;
  int64_t inside_end;
};

Extent centred(int64_t size, int64_t crop) {
  const int64_t begin = floor_half(size - crop);
  return {begin, crop, std::max<int64_t>(begin, 0), std::min(begin + crop, size)};
}

// The resized image is only made as far as the crop shows it, but its size must be one that exists.
void check_resized(const Size& size) {
  if (size.height < 1 || size.width < 1) {
    throw Error(
        cat("the image is too thin: resizing would leave ", size.width, " x ", size.height, " pixels"));
  }
  if (std::max(size.height, size.width) > 1 << 29) {
    throw Error(cat("the image would be resized to ", size.width, " x ", size.height,
                    " pixels: cut it to a less extreme shape"));
  }
}

void check_result(int64_t height, int64_t width, const ImageLimits& limits) {
  if (height * width <= limits.pixels) return;
  throw Error(cat("the image would become ", width, " x ", height, " pixels, and at most ", limits.pixels,
                  " are taken: cut it to a less extreme shape"));
}

// What each value of a channel becomes, in the reference's order and widths: float64 product, float32 after.
std::array<float, 256> channel_values(const ImageProcessorConfig& config, size_t channel) {
  std::array<float, 256> values;
  for (int i = 0; i < 256; ++i) {
    auto value = static_cast<float>(i);
    if (config.do_rescale) value = static_cast<float>(i * config.rescale_factor);
    if (config.do_normalize) {
      value = (value - static_cast<float>(config.mean[channel])) / static_cast<float>(config.std[channel]);
    }
    values[static_cast<size_t>(i)] = value;
  }
  return values;
}

// The image on white where it is transparent.
RgbImage on_white(RgbImage image) {
  const auto transparent = *image.transparent;
  for (auto pixel = image.pixels.begin(); pixel != image.pixels.end(); pixel += 3) {
    if (std::equal(pixel, pixel + 3, transparent.begin())) std::fill_n(pixel, 3, uint8_t{255});
  }
  image.transparent.reset();
  return image;
}

Size resized_canvas(int width, int height, const ImageProcessorConfig& config) {
  if (config.pad_to_square) width = height = std::max(width, height);
  return config.do_resize ? resized(config.size, height, width) : Size{height, width};
}

}  // namespace

PreparedSize prepared_size(int width, int height, const ImageProcessorConfig& config) {
  if (config.do_center_crop) return {config.crop_height, config.crop_width};
  const Size size = resized_canvas(width, height, config);
  return {size.height, size.width};
}

PixelValues process_image(const RgbImage& image, const ImageProcessorConfig& config,
                          const ImageLimits& limits) {
  if (config.do_convert_rgb && image.transparent) return process_image(on_white(image), config, limits);
  const Canvas canvas = config.pad_to_square ? square_around(image, config.mean) : Canvas::of(image);
  const Size size = resized_canvas(image.width, image.height, config);
  check_resized(size);
  const Extent rows = centred(size.height, config.do_center_crop ? config.crop_height : size.height);
  const Extent columns = centred(size.width, config.do_center_crop ? config.crop_width : size.width);
  check_result(rows.length, columns.length, limits);

  const Window window{static_cast<int>(columns.inside_begin), static_cast<int>(rows.inside_begin),
                      static_cast<int>(columns.inside_end - columns.inside_begin),
                      static_cast<int>(rows.inside_end - rows.inside_begin)};
  // Filters of the same size give the canvas back, and nearest does so at least cost.
  const bool same = size.height == canvas.height && size.width == canvas.width;
  const RgbImage part = resize(canvas, static_cast<int>(size.width), static_cast<int>(size.height),
                               same ? Resample::nearest : config.resample, window);

  PixelValues out{static_cast<int>(rows.length), static_cast<int>(columns.length), {}};
  const auto plane = static_cast<size_t>(rows.length * columns.length);
  out.values.resize(3 * plane);
  for (size_t c = 0; c < 3; ++c) {
    const std::array<float, 256> values = channel_values(config, c);
    float* to = out.values.data() + c * plane;
    std::fill_n(to, plane, values[0]);
    to += (rows.inside_begin - rows.begin) * columns.length + (columns.inside_begin - columns.begin);
    for (int y = 0; y < part.height; ++y, to += columns.length) {
      const uint8_t* from = part.row(y) + c;
      for (int x = 0; x < part.width; ++x) to[x] = values[from[3 * x]];
    }
  }
  return out;
}

}  // namespace llamita
