// From an image to what the vision tower reads, equal to transformers' PIL-backed processors bit for bit:
// pad to a square, resize, crop the centre, scale, normalise.
#pragma once

#include <vector>

#include "image/image.h"
#include "image/processor_config.h"
#include "tensor/tensor.h"

namespace llamita {

struct PixelValues {
  int height = 0;
  int width = 0;
  std::vector<float> values;  // (3, H, W)

  Tensor tensor() const { return Tensor::of(values.data(), {3, height, width}); }
};

struct PreparedSize {
  int64_t height = 0;
  int64_t width = 0;
};

// What an image of this size becomes.
PreparedSize prepared_size(int width, int height, const ImageProcessorConfig& config);

// Throws Error when the result would exceed `limits`, which a strip resized by its shortest edge and not
// cropped can. Cost: the pixels of the image plus those of the result, times the filter's width.
//
//   const auto config = read_llava_processor_config(folder);
//   const PixelValues pixels = process_image(load_image("a.jpg"), config.image);
PixelValues process_image(const RgbImage& image, const ImageProcessorConfig& config,
                          const ImageLimits& limits = {});

}  // namespace llamita
