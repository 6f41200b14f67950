// The files of the chat page (server/web) and the document of the API, compiled in by
// cmake/embed_files.cmake.
#pragma once

#include <cstddef>
#include <string_view>

namespace llamita::server {

struct WebFile {
  std::string_view path;  // "/", "/chat.js", …
  std::string_view type;  // Content-Type
  std::string_view content;
  std::string_view etag;
};

// nullptr when there is none.
const WebFile* find_web_file(std::string_view path);

}  // namespace llamita::server
