// Tokenizer: text to token ids and back, from tokenizer.json or from GGUF keys. Equal to Hugging Face's
// tokenizers on every input, in time linear in the text. Immutable after loading and safe to use from many
// threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/piece.h"

namespace llamita {

namespace gguf {
class File;
}

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // From a model folder or a .gguf file.
  static std::unique_ptr<Tokenizer> load(const std::string& path);
  // From a model folder: tokenizer.json, with tokenizer_config.json and special_tokens_map.json where they
  // are there. Throws Error naming file and field for anything missing, malformed or not supported.
  static std::unique_ptr<Tokenizer> from_folder(const std::string& folder);
  // The same from the text of a tokenizer.json alone; `source` names it in errors.
  static std::unique_ptr<Tokenizer> from_json(std::string_view text, const std::string& source);
  // From the tokenizer.ggml.* keys of a GGUF file.
  static std::unique_ptr<Tokenizer> from_gguf(const gguf::File& file);

  // Token ids of the pieces as one text; only control tokens look at who wrote it. `add_special` adds what
  // the model's post-processor adds (a BOS, say).
  virtual std::vector<int32_t> encode(std::span<const Piece> pieces, bool add_special) const = 0;
  // One piece. Untrusted text that spells a control token becomes ordinary tokens.
  std::vector<int32_t> encode(std::string_view text, bool add_special, bool trusted) const;

  // Text of the tokens as the model's decoder joins them (for SentencePiece style vocabularies without the
  // leading space). Bytes that are no UTF-8 become U+FFFD as Hugging Face has it; ids outside the vocabulary
  // become nothing.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special) const = 0;
  // Raw bytes this token adds in the middle of a text (not necessarily whole UTF-8 characters); empty for
  // control tokens and for ids outside the vocabulary. Concatenating them gives the text that the detokenizer
  // streams.
  virtual std::string_view token_bytes(int32_t id) const = 0;
  // The same for the first token of a text, where a few decoders (Metaspace) drop the leading space.
  virtual std::string_view first_token_bytes(int32_t id) const = 0;
  // A byte-fallback token ("<0x0A>"): a run of these is text only if the run as a whole is UTF-8; otherwise
  // each of its bytes is a U+FFFD.
  virtual bool is_byte(int32_t id) const = 0;
  // The vocabulary's own spelling ("Ġhello", "<|im_end|>"), for display.
  virtual std::string_view token_text(int32_t id) const = 0;
  virtual std::optional<int32_t> find(std::string_view token_text) const = 0;

  virtual int32_t vocab_size() const = 0;  // ids are 0 .. vocab_size - 1
  virtual bool is_control(int32_t id) const = 0;
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  // Tokens that end a reply: eos, end of turn, end of message, as the files declare them; from
  // GGUF also those that the vocabulary spells in a well-known way.
  virtual const std::vector<int32_t>& stop_tokens() const = 0;
  virtual bool strips_leading_space() const = 0;  // decode() drops one space at the very start
  // "byte-level BPE (smollm)", for people.
  virtual std::string description() const = 0;
  // The model's chat template source, if the files carry one: of a folder chat_template.jinja, else
  // chat_template.json, else tokenizer_config.json.
  virtual const std::optional<std::string>& chat_template() const = 0;
};

}  // namespace llamita
