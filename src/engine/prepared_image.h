// Images between a request and the model: decoded and prepared, and which of their rows a step takes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace llamita {

// What the vision tower reads. Images made of the same bytes have the same token, others never.
struct PreparedImage {
  int32_t token = 0;          // kFirstImageToken or more
  std::vector<float> pixels;  // (3, S, S)
};

// An image in a request's prompt.
struct ImageSpan {
  int begin = 0, end = 0;  // tokens
  std::shared_ptr<const PreparedImage> image;
};

// What a step has of images.
struct StepImages {
  struct Part {
    std::shared_ptr<const PreparedImage> image;
    int begin = 0, end = 0;  // of the image's rows
  };
  std::vector<Part> rows;  // in the order of the step's image tokens
  // Images of later steps: whoever encodes one takes some of these along.
  std::vector<std::shared_ptr<const PreparedImage>> ahead;
};

}  // namespace llamita
