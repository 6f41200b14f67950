#include "image/resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "base/check.h"

namespace llamita {

namespace {

// 32 bits hold a sum of 8-bit pixels times weights that add up to one and may overshoot: 8 + 2 bits, the rest
// is the fraction.
constexpr int kFractionBits = 32 - 8 - 2;

struct Filter {
  double support;  // beyond this distance, in pixels of the smaller image, the weight is zero
  double (*weight)(double);
};

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos_weight(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }
double bilinear_weight(double x) { return std::max(1.0 - std::abs(x), 0.0); }
double box_weight(double x) { return -0.5 < x && x <= 0.5 ? 1.0 : 0.0; }

// Keys' cubic with a = -1/2.
double bicubic_weight(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

double hamming_weight(double x) {
  x = std::abs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= std::numbers::pi;
  return std::sin(x) / x * (0.54 + 0.46 * std::cos(x));
}

Filter filter_of(Resample resample) {
  switch (resample) {
    case Resample::lanczos: return {3.0, lanczos_weight};
    case Resample::bilinear: return {1.0, bilinear_weight};
    case Resample::bicubic: return {2.0, bicubic_weight};
    case Resample::box: return {0.5, box_weight};
    case Resample::hamming: return {1.0, hamming_weight};
    case Resample::nearest: break;
  }
  LLAMITA_CHECK(false, "nearest has no filter");
  return {};
}

// For each output pixel of one axis: the input pixels it is made of and their weights.
struct Taps {
  struct Span {
    int first;
    int count;
    size_t weights;  // where they start in `weights`
  };
  std::vector<Span> spans;
  std::vector<int32_t> weights;
};

int32_t to_fixed(double weight) {
  return static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kFractionBits));
}

// Output pixels [begin, begin + count) of `out` from `in` pixels.
Taps find_taps(int in, int out, int begin, int count, const Filter& filter) {
  const double scale = static_cast<double>(in) / out;
  const double widened = std::max(scale, 1.0);
  const double support = filter.support * widened;
  const double unit = 1.0 / widened;
  Taps taps;
  std::vector<double> weights;
  for (int i = begin; i < begin + count; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), in);
    weights.clear();
    double sum = 0.0;
    for (int x = first; x < end; ++x) {
      weights.push_back(filter.weight((x - center + 0.5) * unit));
      sum += weights.back();
    }
    taps.spans.push_back({first, end - first, taps.weights.size()});
    for (const double weight : weights) {
      taps.weights.push_back(to_fixed(sum != 0.0 ? weight / sum : weight));
    }
  }
  return taps;
}

uint8_t to_pixel(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

constexpr int32_t kHalf = 1 << (kFractionBits - 1);

// Row y of the canvas; `buffer` (3 canvas.width) is used when the image does not fill it.
const uint8_t* canvas_row(const Canvas& canvas, int y, std::vector<uint8_t>& buffer) {
  const RgbImage& image = *canvas.image;
  const bool on_image = y >= canvas.top && y < canvas.top + image.height;
  if (on_image && image.width == canvas.width) return image.row(y - canvas.top);
  for (size_t i = 0; i < buffer.size(); ++i) buffer[i] = canvas.ground[i % 3];
  if (on_image) {
    std::copy_n(image.row(y - canvas.top), size_t{3} * image.width,
                buffer.begin() + ptrdiff_t{3} * canvas.left);
  }
  return buffer.data();
}

struct Range {
  int first;
  int end;
};

// The input pixels that the first pass must make for the second, whose taps then count from the first of
// them.
Range shift_to_used(Taps& second) {
  Range used{second.spans.front().first, 0};
  for (const Taps::Span& span : second.spans) {
    used.first = std::min(used.first, span.first);
    used.end = std::max(used.end, span.first + span.count);
  }
  for (Taps::Span& span : second.spans) span.first -= used.first;
  return used;
}

void filter_row(const uint8_t* row, const Taps& taps, uint8_t* out) {
  for (const Taps::Span& span : taps.spans) {
    const int32_t* weights = taps.weights.data() + span.weights;
    const uint8_t* from = row + size_t{3} * span.first;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int i = 0; i < span.count; ++i, from += 3) {
      red += weights[i] * from[0];
      green += weights[i] * from[1];
      blue += weights[i] * from[2];
    }
    *out++ = to_pixel(red);
    *out++ = to_pixel(green);
    *out++ = to_pixel(blue);
  }
}

// These rows of the canvas, each made as wide as there are taps.
RgbImage filter_rows(const Canvas& canvas, Range rows, const Taps& taps) {
  RgbImage out(static_cast<int>(taps.spans.size()), rows.end - rows.first);
  std::vector<uint8_t> buffer(size_t{3} * canvas.width);
  for (int y = 0; y < out.height; ++y)
    filter_row(canvas_row(canvas, rows.first + y, buffer), taps, out.row(y));
  return out;
}

// These columns of the canvas, each made as high as there are taps.
RgbImage filter_columns(const Canvas& canvas, Range columns, const Taps& taps) {
  RgbImage out(columns.end - columns.first, static_cast<int>(taps.spans.size()));
  std::vector<uint8_t> buffer(size_t{3} * canvas.width);
  const size_t row_size = size_t{3} * out.width;
  std::vector<int32_t> sums(row_size);
  for (int y = 0; y < out.height; ++y) {
    const Taps::Span& span = taps.spans[static_cast<size_t>(y)];
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int i = 0; i < span.count; ++i) {
      const int32_t weight = taps.weights[span.weights + static_cast<size_t>(i)];
      const uint8_t* from = canvas_row(canvas, span.first + i, buffer) + size_t{3} * columns.first;
      for (size_t x = 0; x < row_size; ++x) sums[x] += weight * from[x];
    }
    std::transform(sums.begin(), sums.end(), out.row(y), to_pixel);
  }
  return out;
}

// Pillow's nearest neighbour adds up its steps, so that is done here too: their roundings choose pixels.
std::vector<int> nearest_pixels(int in, int out, int begin, int count) {
  std::vector<int> pixels;
  const double step = static_cast<double>(in) / out;
  double at = step * 0.5;
  for (int i = 0; i < begin + count; ++i, at += step) {
    if (i >= begin) pixels.push_back(std::min(static_cast<int>(at), in - 1));
  }
  return pixels;
}

RgbImage resize_nearest(const Canvas& canvas, int width, int height, const Window& window) {
  const auto columns = nearest_pixels(canvas.width, width, window.left, window.width);
  const auto rows = nearest_pixels(canvas.height, height, window.top, window.height);
  RgbImage out(window.width, window.height);
  std::vector<uint8_t> buffer(size_t{3} * canvas.width);
  for (int y = 0; y < window.height; ++y) {
    const uint8_t* from = canvas_row(canvas, rows[static_cast<size_t>(y)], buffer);
    uint8_t* to = out.row(y);
    for (const int column : columns) to = std::copy_n(from + size_t{3} * column, 3, to);
  }
  return out;
}

// The first pass rounds to 8 bits, so which one it is shows. Pillow starts with the columns, since version
// 13, when the height loses more than twice what the width does; before, always with the rows.
bool columns_first(const Canvas& canvas, int width, int height) {
  return height < canvas.height && int64_t{canvas.height} - height > 2 * (int64_t{canvas.width} - width);
}

}  // namespace

RgbImage resize(const Canvas& canvas, int width, int height, Resample resample, const Window& window) {
  LLAMITA_CHECK(window.left >= 0 && window.top >= 0 && window.width > 0 && window.height > 0 &&
                    window.width <= width - window.left && window.height <= height - window.top,
                "the window is not inside the resized image");
  if (resample == Resample::nearest) return resize_nearest(canvas, width, height, window);
  const Filter filter = filter_of(resample);
  Taps across = find_taps(canvas.width, width, window.left, window.width, filter);
  Taps down = find_taps(canvas.height, height, window.top, window.height, filter);
  if (columns_first(canvas, width, height)) {
    const RgbImage flat = filter_columns(canvas, shift_to_used(across), down);
    return filter_rows(Canvas::of(flat), {0, flat.height}, across);
  }
  const RgbImage narrow = filter_rows(canvas, shift_to_used(down), across);
  return filter_columns(Canvas::of(narrow), {0, narrow.width}, down);
}

RgbImage resize(const RgbImage& image, int width, int height, Resample resample) {
  return resize(Canvas::of(image), width, height, resample, {0, 0, width, height});
}

}  // namespace llamita
