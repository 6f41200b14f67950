#include "text/detokenizer.h"

namespace llamita {

std::string Detokenizer::push(int32_t id) {
  std::string out;
  if (id < 0 || id >= tokenizer_->vocab_size() || tokenizer_->is_control(id)) return out;
  if (tokenizer_->token_text(id).empty()) return out;  // a hole in the vocabulary
  joiner_.add(first_ ? tokenizer_->first_token_bytes(id) : tokenizer_->token_bytes(id),
              tokenizer_->is_byte(id), out);
  first_ = false;
  return out;
}

std::string Detokenizer::finish() {
  std::string out;
  joiner_.finish(out);
  return out;
}

}  // namespace llamita
