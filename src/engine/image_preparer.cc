#include "engine/image_preparer.h"

#include <algorithm>

#include "base/cat.h"
#include "base/sha256.h"
#include "formats/printable.h"
#include "image/decode.h"
#include "llamita/request_error.h"
#include "sched/batch.h"

namespace llamita {

ImagePreparer::ImagePreparer(const std::string& folder, const VisionConfig& vision, const ImageLimits& limits)
    : config_(read_llava_processor_config(folder)),
      folder_(folder),
      vision_(vision),
      limits_(limits),
      next_token_(sched::kFirstImageToken) {
  config_.complete(vision.patch, vision.drops_class_token);
  const int side = vision.image_size;
  // Whatever their shapes are.
  for (const auto& [width, height] : {std::pair(side, side), {side, 2 * side}, {2 * side, side}}) {
    const PreparedSize size = prepared_size(width, height, config_.image);
    if (size.width == side && size.height == side) continue;
    throw Error(cat(folder, ": an image of ", width, " x ", height, " pixels would be prepared as ",
                    size.width, " x ", size.height, ", but the vision tower takes ", side, " x ", side));
  }
  if (config_.image_tokens(side, side) != vision.image_rows()) {
    throw Error(cat(folder, ": the processor gives an image ", config_.image_tokens(side, side),
                    " tokens, but the vision tower ", vision.image_rows(), " rows"));
  }
}

void ImagePreparer::require_token(const Tokenizer& tokenizer) const {
  if (config_.image_token.empty()) throw Error(cat(folder_, ": the processor's image_token is empty"));
  const std::vector<int32_t> ids = tokenizer.encode(std::vector<Piece>{{config_.image_token, true}}, false);
  if (ids.size() == 1 && ids[0] == vision_.image_token) return;
  throw Error(cat(folder_, ": the processor's image_token ", printable(config_.image_token), " is ",
                  ids.size() == 1 ? cat("token ", ids[0]) : cat(ids.size(), " tokens"),
                  " to the tokenizer, but config.json's image_token_index is ", vision_.image_token));
}

size_t ImagePreparer::placed_tokens(const std::vector<Picture>& pictures,
                                    const std::vector<int32_t>& prompt) const {
  const auto places = static_cast<size_t>(std::count(prompt.begin(), prompt.end(), vision_.image_token));
  if (places != pictures.size()) {
    throw Error(cat("the prompt has places for ", places, " images, and ", pictures.size(), " were given",
                    places == 0 ? ": the chat template shows no images" : ""));
  }
  if (pictures.size() > kMostPictures) {
    throw Error(cat("a request has ", pictures.size(), " images, at most ", kMostPictures, " are taken"));
  }
  return prompt.size() - places + places * static_cast<size_t>(image_tokens());
}

std::vector<ImageSpan> ImagePreparer::place(const std::vector<Picture>& pictures,
                                            std::vector<int32_t>& prompt) const {
  const size_t tokens = placed_tokens(pictures, prompt);
  if (pictures.empty()) return {};
  std::vector<ImageSpan> spans;
  std::vector<int32_t> expanded;
  expanded.reserve(tokens);
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
  image->pixels = pixels_of(bytes, number);
  const std::lock_guard lock(mutex_);
  kept_.push_front(image);
  if (kept_.size() > kKept) kept_.pop_back();
  return image;
}

std::vector<float> ImagePreparer::pixels_of(std::span<const std::byte> file, size_t number) const {
  const std::string name = cat("image ", number + 1);
  const int side = vision_.image_size;
  try {
    // What comes out is as large as the tower, whatever limits hold for what comes in.
    PixelValues pixels = process_image(decode_image(file, name, limits_), config_.image,
                                       {.pixels = int64_t{side} * side, .side = side});
    if (pixels.height == side && pixels.width == side) return std::move(pixels.values);
    throw Error(cat(name, " was prepared as ", pixels.width, " x ", pixels.height,
                    " pixels, but the vision tower takes ", side, " x ", side));
  } catch (const Error& error) {
    throw PictureError(number, error.what());
  }
}

}  // namespace llamita
