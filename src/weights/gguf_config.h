// GGUF keys ("llama.block_count") to ModelConfig: the keys that all families share.
#pragma once

#include "weights/model_config.h"
#include "weights/tensor_files.h"

namespace llamita {

// Sizes, norm, rope and special tokens. A family adds its own on top (models/).
ModelConfig read_gguf_config(const TensorFiles& files);

}  // namespace llamita
