// What a checkpoint says about preparing its images: preprocessor_config.json and processor_config.json, as
// transformers 5 reads them for CLIPImageProcessor, LlavaImageProcessor and LlavaProcessor.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "formats/json.h"
#include "image/resize.h"

namespace llamita {

// The rule of `size`; exactly one of the four shapes that transformers' resize takes.
struct ResizeRule {
  enum class Kind {
    exact,          // {"height": a, "width": b}
    shortest_edge,  // {"shortest_edge": a}: the other edge keeps the aspect
    bounded_edges,  // {"shortest_edge": a, "longest_edge": b}: the same, but no edge above b
    fit,            // {"max_height": a, "max_width": b}: the largest inside that keeps the aspect
  };
  Kind kind = Kind::shortest_edge;
  int a = 224;
  int b = 0;
};

// The steps in order. The defaults are those of the classes.
struct ImageProcessorConfig {
  bool do_convert_rgb =
      true;  // images are RGB already; what is left to do is to lay a transparent colour on white
  bool pad_to_square = false;  // LlavaImageProcessor's do_pad: on a ground of the mean colour, centred
  bool do_resize = true;
  ResizeRule size;
  Resample resample = Resample::bicubic;
  bool do_center_crop = true;  // what is smaller than the crop gets a black border
  int crop_height = 224;
  int crop_width = 224;
  bool do_rescale = true;
  double rescale_factor = 1.0 / 255.0;
  bool do_normalize = true;
  std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073};  // of CLIP's training pictures
  std::array<double, 3> std{0.26862954, 0.26130258, 0.27577711};
};

struct LlavaProcessorConfig {
  ImageProcessorConfig image;
  std::string image_token = "<image>";  // one of these in a prompt stands for one image

  // Absent in folders of the time before transformers 4.46, where the model's config.json decides.
  std::optional<int> patch_size;
  std::optional<bool> drops_class_token;  // vision_feature_select_strategy: "default" does, "full" keeps it
  std::optional<int> num_additional_image_tokens;  // of the tower that are no patches: its class token

  // Fills what the folder left out from the model's config.json; CLIP's tower adds one class token.
  void complete(int tower_patch_size, bool tower_drops_class_token);
  // Tokens that an image of (height, width) prepared pixels stands for; after complete().
  int image_tokens(int height, int width) const {
    return (height / *patch_size) * (width / *patch_size) + *num_additional_image_tokens -
           (*drops_class_token ? 1 : 0);
  }
};

// Every field is honoured or named in an Error, because a step left out silently gives wrong answers; fields
// without meaning for the pixels (class names, nulls) are passed over. `source` names the file in errors.
ImageProcessorConfig read_image_processor_config(const Json& json, const std::string& source);

// Both files of a model folder: an "image_processor" inside processor_config.json wins over
// preprocessor_config.json, as in transformers. Throws Error when there is neither.
LlavaProcessorConfig read_llava_processor_config(const std::string& folder);

}  // namespace llamita
