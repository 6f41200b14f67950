// image_url parts of messages: the file inside a data: URL, or, where the server's owner named hosts, behind
// an https: URL.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "formats/json.h"

namespace llamita::server {

struct ImageLimits {
  int images = 8;                   // of one request; a context of 4096 holds seven of LLaVA-1.5's
  size_t bytes = size_t{16} << 20;  // of one image's file
};

// The body behind a URL, at most `limit` bytes; throws Error. Called on worker threads.
using FetchImage = std::function<std::string(const std::string& url, size_t limit)>;

// The value of "image_url": {"url": …, "detail": …} or the URL alone. `fetch` may be empty: only data: URLs
// are taken then. Throws ApiError (400) that names `path`.
std::shared_ptr<const std::string> read_image(const Json& value, const std::string& path,
                                              const ImageLimits& limits, const FetchImage& fetch);

// The bytes that standard base64 (with or without its padding) stands for; false when it is none.
bool decode_base64(std::string_view text, std::string& out);

}  // namespace llamita::server
