// The tokenizer of a GGUF file as a model folder has it.
#pragma once

#include <string>

namespace llamita {

namespace gguf {
class File;
}

struct TokenizerFiles {
  std::string tokenizer;  // tokenizer.json
  std::string config;     // tokenizer_config.json: first and last token, chat template
};

// Files with which Tokenizer::from_folder gives the ids that Tokenizer::from_gguf gives. Of byte-level
// tokenizers alone; throws Error for others and for what from_gguf refuses.
TokenizerFiles tokenizer_files(const gguf::File& file);

}  // namespace llamita
