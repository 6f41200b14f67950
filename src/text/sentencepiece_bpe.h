// SentencePiece's byte-pair encoding by scores, as GGUF's "llama" vocabularies carry it: two neighbours merge
// when their joined spelling is a token, the highest score first. There is no list of merges.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"
#include "text/word_model.h"

namespace llamita {

class SentencePieceBpeModel final : public WordModel {
 public:
  // `vocabulary` is borrowed for the lifetime of the model; scores[id] for each id (not NaN). `bytes[b]` is
  // the token of byte b or -1. Tokens in `excluded` are never produced from text.
  SentencePieceBpeModel(const Vocabulary& vocabulary, const std::vector<double>& scores,
                        std::vector<bool> excluded, const std::array<int32_t, 256>& bytes,
                        std::optional<int32_t> unk);

  void encode(std::string_view word, merging::Scratch& scratch, std::vector<int32_t>& out) const override;

 private:
  int32_t find(std::string_view text) const;  // -1: none

  const Vocabulary& vocabulary_;
  std::vector<uint32_t> rank_;  // of each id: 0 has the highest score, equal scores have equal ranks
  std::vector<bool> excluded_;
  std::array<int32_t, 256> bytes_;
  std::optional<int32_t> unk_;
  size_t longest_ = 0;
};

}  // namespace llamita
