// A vocabulary as a trie over the bytes of its tokens, so that one walk decides about all tokens that begin
// alike. Control tokens and tokens without bytes are not in it. Built once for a tokenizer, then read only:
// share it between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace llamita::grammar {

class TokenTrie {
 public:
  // `bytes[id]` is what token `id` writes; empty: never allowed. `stops` end a text. Ids outside the
  // vocabulary are an Error.
  TokenTrie(std::vector<std::string> bytes, std::vector<int32_t> stops);
  // Of the tokenizer's token_bytes() and stop_tokens().
  explicit TokenTrie(const Tokenizer& tokenizer);

  // Nodes in depth-first order without the root: node i is followed by its children, and `next(i)` is the
  // first node that is not below it.
  struct Node {
    int32_t next;
    int32_t first_token;  // into tokens_; those of node i end where those of i + 1 begin
    int32_t depth;        // the children of the root have 0
    uint8_t byte;
  };
  int32_t size() const { return static_cast<int32_t>(nodes_.size()) - 1; }
  const Node& node(int32_t i) const { return nodes_[size_t(i)]; }
  std::span<const int32_t> tokens(int32_t i) const {
    return {tokens_.data() + node(i).first_token, tokens_.data() + node(i + 1).first_token};
  }

  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  size_t mask_words() const { return (bytes_.size() + 31) / 32; }
  const std::string& bytes(int32_t token) const { return bytes_[size_t(token)]; }
  int32_t longest() const { return longest_; }  // bytes
  const std::vector<int32_t>& stops() const { return stops_; }
  bool is_stop(int32_t token) const;
  // Every byte that UTF-8 uses is a token of its own, so that whatever a grammar asks for can be spelled.
  bool spells_everything() const { return spells_everything_; }

 private:
  void build();

  std::vector<std::string> bytes_;
  std::vector<int32_t> stops_;
  std::vector<Node> nodes_;  // and one past the end
  std::vector<int32_t> tokens_;
  int32_t longest_ = 0;
  bool spells_everything_ = true;
};

}  // namespace llamita::grammar
