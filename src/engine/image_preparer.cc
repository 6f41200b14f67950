#include "engine/image_preparer.h"

#include <algorithm>

#include "base/cat.h"
#include "base/sha256.h"
#include "image/decode.h"
#include "llamita/error.h"
#include "sched/batch.h"

namespace llamita {

ImagePreparer::ImagePreparer(const std::string& folder, const VisionConfig& vision, const ImageLimits& limits)
    : config_(read_llava_processor_config(folder)),
      vision_(vision),
      limits_(limits),
      next_token_(sched::kFirstImageToken) {
  config_.complete(vision.patch, vision.drops_class_token);
  const ImageProcessorConfig& image = config_.image;
  const int side = vision.image_size;
  if (image.do_center_crop ? image.crop_height != side || image.crop_width != side : !image.do_resize) {
    throw Error(cat(folder, ": its images are prepared as ", image.crop_width, " x ", image.crop_height,
                    " pixels, but the vision tower takes ", side, " x ", side));
  }
  if (config_.image_tokens(side, side) != vision.image_rows()) {
    throw Error(cat(folder, ": the processor gives an image ", config_.image_tokens(side, side),
                    " tokens, but the vision tower ", vision.image_rows(), " rows"));
  }
}

std::vector<ImageSpan> ImagePreparer::place(const std::vector<Picture>& pictures,
                                            std::vector<int32_t>& prompt) const {
  const auto places = static_cast<size_t>(std::count(prompt.begin(), prompt.end(), vision_.image_token));
  if (places != pictures.size()) {
    throw Error(cat("the prompt has places for ", places, " images, and ", pictures.size(), " were given",
                    places == 0 ? ": the chat template shows no images" : ""));
  }
  if (pictures.empty()) return {};
  if (pictures.size() > kMostPictures) {
    throw Error(cat("a request has ", pictures.size(), " images, at most ", kMostPictures, " are taken"));
  }
  std::vector<ImageSpan> spans;
  std::vector<int32_t> expanded;
  for (const int32_t token : prompt) {
    if (token != vision_.image_token) {
      expanded.push_back(token);
      continue;
    }
    const size_t number = spans.size();
    const auto begin = static_cast<int>(expanded.size());
    spans.push_back({begin, begin + image_tokens(), prepare(pictures[number], number)});
    expanded.resize(expanded.size() + static_cast<size_t>(image_tokens()), spans.back().image->token);
  }
  prompt = std::move(expanded);
  return spans;
}

std::shared_ptr<const PreparedImage> ImagePreparer::prepare(const Picture& picture, size_t number) const {
  LLAMITA_CHECK(picture.file != nullptr, "a picture without a file");
  const std::span<const std::byte> bytes = std::as_bytes(std::span(*picture.file));
  Sha256 hash;
  hash.update(bytes);
  const std::string digest = hash.hex_digest();
  auto image = std::make_shared<PreparedImage>();
  {
    const std::lock_guard lock(mutex_);
    if (tokens_.size() >= kMostNumbers) tokens_.clear();  // numbers go on, only what was kept is not found
    const auto [known, is_new] = tokens_.try_emplace(digest, next_token_);
    if (is_new) next_token_ = next_token_ == INT32_MAX ? sched::kFirstImageToken : next_token_ + 1;
    image->token = known->second;
    const auto kept = std::find_if(kept_.begin(), kept_.end(),
                                   [&](const auto& other) { return other->token == image->token; });
    if (kept != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, kept);
      return kept_.front();
    }
  }
  const std::string name = cat("image ", number + 1);
  PixelValues pixels = process_image(decode_image(bytes, name, limits_), config_.image);
  if (pixels.height != vision_.image_size || pixels.width != vision_.image_size) {
    throw Error(cat(name, " was prepared as ", pixels.width, " x ", pixels.height,
                    " pixels, but the vision tower takes ", vision_.image_size, " x ", vision_.image_size));
  }
  image->pixels = std::move(pixels.values);
  const std::lock_guard lock(mutex_);
  kept_.push_front(image);
  if (kept_.size() > kKept) kept_.pop_back();
  return image;
}

}  // namespace llamita
