#include "cli/resolve_model.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// "~/", "./", "../", "/…" or a .gguf file: somebody means a path, whether or not it exists.
bool looks_like_path(const std::string& text) {
  const auto starts = [&](const char* start) { return text.rfind(start, 0) == 0; };
  const bool gguf = text.size() > 5 && text.compare(text.size() - 5, 5, ".gguf") == 0;
  return starts("/") || starts("./") || starts("../") || starts("~/") || gguf;
}

// "org/name" or "org/name:quant".
bool looks_like_repository(const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/' || c == ':';
  });
  const size_t slash = text.find('/');
  return plain && slash != std::string::npos && slash > 0 && slash + 1 < text.size() &&
         text.find('/', slash + 1) == std::string::npos;
}

}  // namespace

bool looks_like_model(const std::string& text) {
  return text == kDefaultModel || exists(text) || looks_like_path(text) || looks_like_repository(text);
}

std::string resolve_model(const std::string& model) {
  if (exists(model)) return model;
  if (looks_like_path(model)) throw Error(cat("there is no file or folder ", model));
  throw Error(cat("no hub yet: ", model));
}

std::string pull_model(const std::string& model) { return resolve_model(model); }

}  // namespace llamita::cli
