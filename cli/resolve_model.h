// What a MODEL argument means: a model folder, a .gguf file, a known name, or a Hugging Face repository
// "org/name" or "org/name:quant", which is downloaded on first use.
#pragma once

#include <string>
#include <string_view>

namespace llamita::cli {

inline constexpr std::string_view kDefaultModel = "smollm2-135m-instruct";

// Whether `text` is a model without any doubt: something that exists, a known name, a repository in the
// cache, or a name that ends in .gguf.
bool is_local_model(const std::string& text);
// Whether it could be one: the same, a path, or one word with one slash like a repository.
bool looks_like_model(const std::string& text);

// The folder or .gguf file that `model` means; "" is the default model. Downloads with a progress bar when it
// is not here yet. Throws Error.
std::string resolve_model(const std::string& model);

// What to call it in front of people: the name it was asked for by, without the folders of a path.
std::string display_name(const std::string& model);

// The same as resolve_model(), and always asks the source, so that a download that is not complete is
// completed.
std::string pull_model(const std::string& model);

}  // namespace llamita::cli
