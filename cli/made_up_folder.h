// Made-up weights as a model folder, for measuring how fast such a model is loaded.
#pragma once

#include <string>

#include "base/thread_pool.h"
#include "weights/tensor_files.h"

namespace llamita::cli {

// Writes config.json, model.safetensors with the very numbers that loading `files` makes up, and
// tokenizer.json to `folder`, which is made if it is not there and must not have a model. `tokenizer` is a
// tokenizer.json to copy, or a .gguf file whose tokenizer is written; "": one of single bytes. Throws Error
// when a file is there already, or cannot be read or written.
void write_made_up_folder(const TensorFiles& files, const std::string& folder, const std::string& tokenizer,
                          ThreadPool& pool);

}  // namespace llamita::cli
