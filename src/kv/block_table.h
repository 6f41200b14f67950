// BlockTable: the blocks that hold one sequence's keys and values, in order of position. Owns its references
// and gives them back when it goes.
#pragma once

#include <span>
#include <vector>

#include "kv/block_pool.h"

namespace llamita::kv {

class BlockTable {
 public:
  // Borrows the pool.
  explicit BlockTable(BlockPool& pool) : pool_(&pool) {}
  ~BlockTable() { truncate(0); }
  BlockTable(BlockTable&& other) noexcept;
  BlockTable& operator=(BlockTable&& other) noexcept;

  std::span<const BlockId> blocks() const { return blocks_; }
  int capacity() const { return static_cast<int>(blocks_.size()) * pool_->block_tokens(); }  // tokens

  // Takes blocks until `tokens` tokens fit. False, and nothing taken, when the pool has too few.
  [[nodiscard]] bool grow(int tokens);
  // Gives back the blocks that `tokens` tokens do not need.
  void truncate(int tokens);
  // Adds a block that others use or that is kept, as the next one.
  void share(BlockId block);
  // Whether nobody else uses or keeps the block that holds this position: only then may it be written.
  bool exclusive(int position) const;

 private:
  BlockPool* pool_;
  std::vector<BlockId> blocks_;
};

}  // namespace llamita::kv
