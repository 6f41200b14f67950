// PipelineTokenizer: the one implementation of Tokenizer. Text goes through added tokens, normalizer,
// pre-tokenizer and word model; what these are, the loaders say (tokenizer_json.cc, tokenizer_gguf.cc).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoding.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"
#include "text/word_model.h"

namespace llamita {

// All that a loader finds out about a tokenizer.
struct TokenizerParts {
  std::unique_ptr<const Vocabulary> vocabulary;  // with the added tokens
  std::vector<AddedToken> added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const WordModel> model;  // borrows *vocabulary
  std::vector<int32_t> prefix;             // what the post-processor puts before and after
  std::vector<int32_t> suffix;
  std::vector<decoders::Step> decoder;
  std::vector<bool> control;  // of each id; added tokens that are special are control tokens in any case
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::vector<int32_t> stop_tokens;  // eos need not be listed
  std::optional<std::string> chat_template;
  std::string description;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  // Throws Error naming `source` when ids lie outside the vocabulary.
  PipelineTokenizer(TokenizerParts parts, const std::string& source);

  using Tokenizer::encode;
  std::vector<int32_t> encode(std::span<const Piece> pieces, bool add_special) const override;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string_view token_bytes(int32_t id) const override;
  std::string_view first_token_bytes(int32_t id) const override;
  bool is_byte(int32_t id) const override;
  std::string_view token_text(int32_t id) const override;
  std::optional<int32_t> find(std::string_view token_text) const override;
  int32_t vocab_size() const override { return parts_.vocabulary->size(); }
  bool is_control(int32_t id) const override;
  std::optional<int32_t> bos() const override { return parts_.bos; }
  std::optional<int32_t> eos() const override { return parts_.eos; }
  const std::vector<int32_t>& stop_tokens() const override { return parts_.stop_tokens; }
  bool strips_leading_space() const override { return decoding_.strip_leading_space; }
  std::string description() const override { return parts_.description; }
  const std::optional<std::string>& chat_template() const override { return parts_.chat_template; }

 private:
  struct Run;      // a stretch of one trust
  struct Segment;  // text between added tokens
  class Encoder;

  // What the token adds to a text, control token or not.
  std::string_view decoded_bytes(int32_t id, bool first) const;

  TokenizerParts parts_;
  AddedTokenMatcher raw_matcher_;
  AddedTokenMatcher normalized_matcher_;
  TokenDecoding decoding_;
};

}  // namespace llamita
