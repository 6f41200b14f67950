// ImagePreparer: the pictures of requests become what the vision tower reads, and take their places in
// prompts. Decoding and resizing take milliseconds and may fail; they happen on the caller's thread, never in
// the step loop.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/prepared_image.h"
#include "image/image.h"
#include "image/processor.h"
#include "llamita/request.h"
#include "text/tokenizer.h"
#include "weights/model_config.h"

namespace llamita {

class ImagePreparer {
 public:
  static constexpr int kMostPictures = 64;  // of a request
  static constexpr size_t kKept = 8;        // prepared images that are kept for the next turn of a chat

  // `folder` has the processor's files. Throws Error when they do not fit the model.
  ImagePreparer(const std::string& folder, const VisionConfig& vision, const ImageLimits& limits = {});
  // Throws Error when the tokenizer does not read the text of an image's token as the model's image token.
  void require_token(const Tokenizer& tokenizer) const;

  // The text of the token that stands for an image in prompts.
  const std::string& image_text() const { return config_.image_token; }
  // Tokens of a picture in a prompt.
  int image_tokens() const { return vision_.image_rows(); }

  // Tokens of the prompt once `pictures` are in the places of its image tokens, one each: known before any is
  // decoded. Throws Error when their numbers differ and when there are too many.
  size_t placed_tokens(const std::vector<Picture>& pictures, const std::vector<int32_t>& prompt) const;
  // Puts them there; says where. Throws Error as placed_tokens(), and PictureError for one that is no image.
  // Thread-safe.
  std::vector<ImageSpan> place(const std::vector<Picture>& pictures, std::vector<int32_t>& prompt) const;

 private:
  std::shared_ptr<const PreparedImage> prepare(const Picture& picture, size_t number) const;
  std::vector<float> pixels_of(std::span<const std::byte> file, size_t number) const;  // (3, S, S)

  LlavaProcessorConfig config_;
  std::string folder_;
  VisionConfig vision_;
  ImageLimits limits_;

  // By the SHA-256 of a file: its number for as long as the engine lives, so that a prefix is known again.
  static constexpr size_t kMostNumbers = 1 << 16;
  mutable std::mutex mutex_;  // of what follows
  mutable std::map<std::string, int32_t> tokens_;
  mutable int32_t next_token_;
  mutable std::list<std::shared_ptr<const PreparedImage>> kept_;  // the latest first
};

}  // namespace llamita
