// Byte-pair encoding with ranked merges (GPT-2, Llama 3, Qwen, and the SentencePiece vocabularies that
// tokenizer.json spells as merges).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"
#include "text/word_model.h"

namespace llamita {

// (left id, right id) -> merge, by open addressing.
class MergeTable {
 public:
  struct Entry {
    int32_t left;
    int32_t right;
    merging::Merge merge;
  };

  MergeTable() = default;
  // A pair that comes twice keeps its last merge.
  explicit MergeTable(const std::vector<Entry>& entries);

  const merging::Merge* find(int32_t left, int32_t right) const;

 private:
  size_t slot(int32_t left, int32_t right) const;

  std::vector<Entry> slots_;  // a power of two of them, at most half full; left < 0 in a free one
  size_t mask_ = 0;
};

class BpeModel final : public WordModel {
 public:
  struct Options {
    bool byte_level = false;     // symbols begin as bytes, spelled in the byte alphabet
    bool byte_fallback = false;  // characters without a token become "<0x..>" tokens
    bool fuse_unk = false;       // neighbouring unknown characters become one token
    bool ignore_merges = false;  // a word that is a token is that token
    std::optional<int32_t> unk;  // for unknown characters; without it they vanish
  };

  // `vocabulary` is borrowed for the lifetime of the model. Tokens in `excluded` (by id) are never produced
  // from text.
  BpeModel(const Vocabulary& vocabulary, const std::vector<MergeTable::Entry>& merges,
           std::vector<bool> excluded, const Options& options);

  void encode(std::string_view word, merging::Scratch& scratch, std::vector<int32_t>& out) const override;

 private:
  std::optional<int32_t> find(std::string_view text) const;
  void add_bytes(std::string_view word, merging::Scratch& scratch) const;
  void add_characters(std::string_view word, merging::Scratch& scratch) const;
  bool add_fallback(std::string_view word, size_t at, size_t length, merging::Scratch& scratch) const;

  const Vocabulary& vocabulary_;
  MergeTable merges_;
  std::vector<bool> excluded_;
  Options options_;
  std::array<int32_t, 256> byte_ids_{};      // of the byte alphabet, -1 where it has no token
  std::array<int32_t, 256> fallback_ids_{};  // of "<0x..>"
  size_t longest_ = 0;                       // bytes of the longest spelling
};

}  // namespace llamita
