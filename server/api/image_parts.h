// image_url parts of messages: the file inside a data: URL, or, where the server's owner named hosts, behind
// an https: URL.
#pragma once

#include <chrono>
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

// How a fetched image may be got.
struct FetchTerms {
  size_t most_bytes = 0;
  std::chrono::milliseconds most_time{};
  std::function<bool()> stopped;  // true: nobody waits for it any more
};
// The body behind a URL; throws Error. Called on worker threads.
using FetchImage = std::function<std::string(const std::string& url, const FetchTerms& terms)>;

// An image of a request: its file, or where that is still to be fetched from.
struct ImageSource {
  std::shared_ptr<const std::string> file;
  std::string url;   // when there is no file
  std::string path;  // of the URL in the body, for errors
};

// The value of "image_url": {"url": …, "detail": …} or the URL alone. Without `fetches` only data: URLs are
// taken, else https: URLs too. Throws ApiError (400) that names `path`.
ImageSource read_image(const Json& value, const std::string& path, const ImageLimits& limits, bool fetches);

// The file behind source.url. Throws ApiError (400) that names source.path.
std::shared_ptr<const std::string> fetch_image(const ImageSource& source, const FetchImage& fetch,
                                               const FetchTerms& terms);

// The bytes that standard base64 (with or without its padding) stands for; false when it is none.
bool decode_base64(std::string_view text, std::string& out);

}  // namespace llamita::server
