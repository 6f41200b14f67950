// BlockPool: which pages of the key/value cache are free and how many sequences use each of the others. Ids
// only: the tensors belong to the engine. A block is written by its one owner; once full it may be shared and
// is then only read (Kwon et al. 2023, PagedAttention). A kept block is not free when its last user leaves:
// it holds a prefix that somebody may want again.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace llamita::kv {

using BlockId = int32_t;

class BlockPool {
 public:
  // `blocks` blocks of `block_tokens` tokens each, all free.
  BlockPool(int blocks, int block_tokens);

  int blocks() const { return static_cast<int>(references_.size()); }
  int free_blocks() const { return static_cast<int>(free_.size()); }
  int idle_blocks() const { return idle_; }      // kept and used by nobody
  int shared_blocks() const { return shared_; }  // with two references or more
  int block_tokens() const { return block_tokens_; }
  // Blocks that hold `tokens` tokens.
  int blocks_for(int tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }

  // A free block with one reference, or nothing when there is none.
  std::optional<BlockId> take();
  void share(BlockId block);    // one reference more, to a block that is used or kept
  void release(BlockId block);  // one less; with the last the block is free, unless it is kept
  int references(BlockId block) const;

  // A block in use stays when its last reference goes, until it is dropped.
  void keep(BlockId block);
  void drop(BlockId block);
  bool kept(BlockId block) const;

  // Compares the books with what the owners hold: every block is on the free list once, or kept, or
  // referenced as often as it stands in `held` (all owners' blocks, one after another). Returns what is
  // wrong, "" when nothing is.
  std::string check_integrity(std::span<const BlockId> held) const;

 private:
  size_t index(BlockId block) const;

  int block_tokens_;
  std::vector<int32_t> references_;  // by block
  std::vector<bool> kept_;           // by block
  std::vector<BlockId> free_;        // a stack: what was freed last is warm in caches
  int idle_ = 0;
  int shared_ = 0;
};

}  // namespace llamita::kv
