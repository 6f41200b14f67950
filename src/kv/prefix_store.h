// PrefixStore: sequences that have ended, kept with their blocks until somebody needs the room. A new
// sequence that begins with the same tokens starts from their keys and values: the next turn of a chat
// computes only what is new. Keys and values depend on nothing but the tokens up to their position, so reuse
// changes no bit.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <vector>

#include "kv/block_table.h"

namespace llamita::kv {

// How many tokens two sequences share from the start.
int common_prefix(std::span<const int32_t> a, std::span<const int32_t> b);

class PrefixStore {
 public:
  // Keeps at most `entries` sequences, the oldest going first.
  explicit PrefixStore(int entries) : limit_(entries) {}

  // Keeps the blocks of `tokens`, all of whose keys and values are computed.
  void keep(std::vector<int32_t> tokens, BlockTable blocks);
  // The most tokens adopt() could reuse for a sequence that begins with `tokens`.
  int longest_match(std::span<const int32_t> tokens) const;
  // Fills the empty `table` with the longest kept prefix of `tokens` and returns its tokens. Full blocks are
  // shared; a last, partly filled block is moved out of the store when nobody else references it, because its
  // new owner will write to it.
  int adopt(std::span<const int32_t> tokens, BlockTable& table, int block_tokens);
  // Forgets the sequence kept longest ago. False when there is none.
  bool evict_oldest();

  // Every block reference held here, for BlockPool::check_integrity.
  void append_blocks(std::vector<BlockId>& out) const;

 private:
  struct Entry {
    std::vector<int32_t> tokens;
    BlockTable blocks;
  };

  size_t limit_;
  std::list<Entry> entries_;  // oldest first
};

}  // namespace llamita::kv
